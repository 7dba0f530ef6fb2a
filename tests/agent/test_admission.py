"""Which pods a node refuses, and in which words. The scheduler's pods always fit; these name their node themselves."""

import pytest

from labctl import defaults
from labctl.agent.admission import MACHINE_PORTS, demand, refusal

ALLOCATABLE = {"cpu": "1", "memory": "1Gi", "pods": "3"}


def pod(cpu="100m", inits=(), overhead=None, resources=None, **port):
    container = {"name": "c", "resources": {"requests": {"cpu": cpu}}, **({"ports": [port]} if port else {})}
    said = {"overhead": overhead, "resources": resources}
    return {"spec": {"containers": [container], "initContainers": list(inits), **{name: each for name, each in said.items() if each}}}


def init(cpu, policy=None):
    return {"name": "i", "resources": {"limits": {"cpu": cpu}}, **({"restartPolicy": policy} if policy else {})}


def test_what_fits_is_taken():
    assert refusal(pod("500m"), [pod("500m")], ALLOCATABLE) is None
    assert refusal(pod("9"), [pod("9")], {}) is None, "nobody said what the node has"


def test_what_a_node_has_not_is_named():
    reason, message = refusal(pod("600m"), [pod("500m")], ALLOCATABLE)
    assert reason == "OutOfcpu"
    assert message == "Pod was rejected: Node didn't have enough resource: cpu, requested: 600, used: 500, capacity: 1000"
    assert refusal(pod(), [pod()] * 3, ALLOCATABLE)[0] == "OutOfpods"


def test_a_pod_for_another_system_is_refused():
    mine = pod()
    mine["spec"]["os"] = {"name": "linux"}
    assert refusal(mine, [], ALLOCATABLE) is None
    mine["spec"]["os"] = {"name": "windows"}
    assert refusal(mine, [], ALLOCATABLE) == (
        "PodOSNotSupported",
        "Pod was rejected: Failed to admit pod as the OS field doesn't match node OS",
    )


def test_a_pod_that_would_set_what_is_not_its_own_is_refused():
    mine = pod()
    mine["spec"]["securityContext"] = {"sysctls": [{"name": "kernel.shmmax", "value": "1"}, {"name": "net/core/somaxconn", "value": "1"}]}
    assert refusal(mine, [], ALLOCATABLE) is None
    mine["spec"]["securityContext"]["sysctls"].append({"name": "vm.swappiness", "value": "1"})
    assert refusal(mine, [], ALLOCATABLE) == ("SysctlForbidden", 'Pod was rejected: forbidden sysctl: "vm.swappiness" not allowlisted')


@pytest.mark.parametrize(
    ("mine", "theirs", "free"),
    [
        ({"hostPort": 80}, {"hostPort": 80}, False),
        ({"hostPort": 80}, {"hostPort": 81}, True),
        ({"hostPort": 80}, {"hostPort": 80, "protocol": "UDP"}, True),
        ({"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 80, "hostIP": "10.0.0.2"}, True),
        ({"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 80}, False),
    ],
)
def test_a_port_of_the_machine_is_given_once(mine, theirs, free):
    told = refusal(pod(**mine), [pod(**theirs)], ALLOCATABLE)
    assert (told is None) == free
    assert free or told[0] == "NodePorts"


@pytest.mark.parametrize(("protocol", "number"), sorted(MACHINE_PORTS))
def test_no_pod_is_sent_what_is_meant_for_the_machine(protocol, number):
    assert refusal(pod(hostPort=number, protocol=protocol), [], ALLOCATABLE)[0] == "NodePorts"
    listening = pod(hostPort=number, protocol=protocol)
    listening["spec"]["hostNetwork"] = True
    assert refusal(listening, [], ALLOCATABLE) is None, "it listens itself, where it can"
    assert set(MACHINE_PORTS) == defaults.MACHINE_PORTS


def test_a_pod_asks_for_its_peak():
    assert demand(pod("300m", [init("500m")]), "cpu") == 500
    assert demand(pod("300m", [init("200m", "Always"), init("50m")]), "cpu") == 500
    assert demand(pod("300m", overhead={"cpu": "10m"}), "cpu") == 310
    assert demand(pod("300m", resources={"requests": {"cpu": "1"}}, overhead={"cpu": "10m"}), "cpu") == 1010
