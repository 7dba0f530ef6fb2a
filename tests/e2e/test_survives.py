"""What a lab lives through beside faults: the host sleeps, all machines are paused, one reboots itself, libvirtd is restarted, the host goes down and boots.

Sleep is no silence: no pod may be killed or moved because of it. After a host's reboot `labctl up` brings back the same pods, on the same nodes.
"""

import contextlib
import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e import hosts
from tests.e2e.cluster import PATIENCE, SEED, condition, wait
from tests.e2e.hosts import MINIONS, VIRTUAL

CLOCKS_APART_S = 1.5
virtual = pytest.mark.skipif(not VIRTUAL, reason="of virtual machines: make test-vm")
PROBED = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "probed"},
    "spec": {
        "containers": [
            {
                "name": "probed",
                "image": "nginx",
                "livenessProbe": {
                    "tcpSocket": {"port": 80},
                    "initialDelaySeconds": round(3 * PATIENCE),
                    "periodSeconds": 1,
                    "timeoutSeconds": round(PATIENCE),
                    "failureThreshold": 1,
                },
            }
        ]
    },
}
"""A pod that nobody would replace, and that one failed probe would end."""


@pytest.fixture
def lab(enduring):
    """The seed's pods and Service, and one bare pod; nothing is under way."""
    if not enduring.items("pods"):
        enduring.kubectl("create", "-f", str(SEED / "nginx-rc.yml"), "-f", str(SEED / "nginx-service.yml"))
        enduring.kubectl("create", "-f", "-", input=json.dumps(PROBED))
    settled(enduring)
    return enduring


def settled(lab) -> None:
    wait(lambda: [condition(node, "Ready") for node in lab.items("nodes")] == ["True", "True"], "both nodes are Ready", 40)
    wait(lambda: len(lab.ready_pods()) == 2 and condition(lab.get("pod", "probed"), "Ready") == "True", "three pods are Ready", 40)
    wait(lambda: not any(node["spec"].get("taints") for node in lab.items("nodes")), "no node has a taint", 10)
    answered(lab)


def answered(lab) -> None:
    for minion in MINIONS:
        wait(lambda m=minion: "Welcome to nginx" in lab.curl(m, lab.vip(), check=False), f"the virtual IP answers on {minion}", 20)


def containers(lab) -> dict:
    """What a restart, a move or a replacement would change."""
    return {
        p["metadata"]["name"]: (p["metadata"]["uid"], p["spec"]["nodeName"], p["status"]["containerStatuses"]) for p in lab.items("pods")
    }


def judgements(lab) -> dict:
    """What the master ever thought of nodes and pods: it would show if it had thought one dead, even for a moment."""
    return {
        thing["metadata"]["name"]: next(c for c in thing["status"]["conditions"] if c["type"] == "Ready")["lastTransitionTime"]
        for thing in lab.items("nodes,pods")
    }


@contextlib.contextmanager
def watching(lab):
    """`kubectl get pods -w`, begun; yields its process."""
    config = {**lab.environment, "KUBECONFIG": str(lab.folder / ".labctl" / "kubeconfig")}
    argv = [*lab.inside, "kubectl", "get", "pods", "-w", "-L", "seen", "--no-headers"]
    with subprocess.Popen(argv, env=config, stdout=subprocess.PIPE, text=True) as kubectl:
        try:
            for _ in range(3):
                assert kubectl.stdout.readline()
            yield kubectl
        finally:
            kubectl.kill()


def renewed(lab) -> dict:
    return {lease["metadata"]["name"]: lease["spec"]["renewTime"] for lease in lab.items("leases", "-n", "kube-node-lease")}


def behind(lab, minion: str) -> float:
    """A clock's error by one look; how long the answer took is none of its errors."""
    before = time.time()
    shown, after = float(lab.on(minion, "date", "+%s.%N").stdout), time.time()
    return before - shown if shown < before else min(0.0, after - shown)


def clocks_are_right(lab) -> None:
    for minion in MINIONS:
        wait(lambda m=minion: abs(behind(lab, m)) < CLOCKS_APART_S, f"{minion} knows what time it is", 15)


def test_a_sleeping_laptop_wakes_and_nobody_noticed(lab):
    """Longer than the nodes' grace and the pods' toleration together; machines wake last, so that their leases look old to the master."""
    pods, thoughts = containers(lab), judgements(lab)
    with watching(lab) as kubectl:
        with hosts.asleep(lab, kubectl.pid):
            time.sleep(lab.grace_s + lab.evict_s + 2)  # how long it sleeps is what is tried
        slept = renewed(lab)
        answered(lab)
        lab.kubectl("label", "pod", "probed", "--overwrite", "seen=awake")
        assert any("awake" in line for line in kubectl.stdout), "the watch goes on"  # an agent may have reported a pod meanwhile
        wait(lambda: all(after != slept[name] for name, after in renewed(lab).items()), "both have spoken", 20)
    clocks_are_right(lab)
    assert containers(lab) == pods
    assert judgements(lab) == thoughts


def test_machines_that_are_all_paused_lose_no_pod(lab):
    """The master is awake and sees silence; as nobody speaks, nobody is left to take the pods."""
    pods = containers(lab)
    hosts.freeze(lab)
    wait(lambda: {condition(node, "Ready") for node in lab.items("nodes")} == {"Unknown"}, "their silence is noticed", lab.grace_s + 10)
    time.sleep(lab.evict_s + 2)  # pods would be evicted meanwhile
    assert not any("deletionTimestamp" in pod["metadata"] for pod in lab.items("pods"))
    hosts.freeze(lab, False)
    settled(lab)
    clocks_are_right(lab)
    assert containers(lab) == pods


@virtual
def test_libvirtd_is_restarted_and_then_a_machine_reboots_itself(lab):
    """Machines go on without libvirtd; when it is back it is listened to: the reboot is an end, at once, and a beginning, by itself."""
    pods, boot = containers(lab), lab.get("node", "minion-2")["status"]["nodeInfo"]["bootID"]
    hosts.stop_libvirtd()
    answered(lab)
    hosts.start_libvirt()
    assert containers(lab) == pods
    lab.kubectl("delete", "pod", "probed", "--now")
    pinned = {**PROBED, "spec": {**PROBED["spec"], "nodeName": "minion-1"}}
    lab.kubectl("create", "-f", "-", input=json.dumps(pinned))
    lab.on("minion-2", "systemctl", "reboot", "--no-block")
    wait(lambda: [p["spec"]["nodeName"] for p in lab.ready_pods()] == ["minion-1"] * 2, "both pods are on minion-1", 40)
    wait(lambda: lab.get("node", "minion-2")["status"]["nodeInfo"]["bootID"] != boot, "another boot is registered", 60)
    settled(lab)


def fetched(lab) -> None:
    """A pod whose image came this moment. The disk knows the names of its files already, and not yet what is in them."""
    pod = {"containers": [{"name": "fetched", "image": "serve-hostname"}]}
    lab.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "fetched"}, "spec": pod}))
    wait(lambda: condition(lab.get("pod", "fetched"), "Ready") == "True", "its image was fetched", 30)
    lab.on(lab.get("pod", "fetched")["spec"]["nodeName"], "dd", "if=/dev/zero", "of=/var/tmp/journal", "count=1", "conv=fsync")


def test_the_host_reboots_and_up_brings_back_the_same_pods(lab):
    """All ends at one moment. Pods come back as after a kubelet's reboot: the same ones, on their nodes, their containers started once more.

    On a busy host one machine boots long after the other, and longer than its pods tolerate a node that is not ready.
    """
    fetched(lab)
    before, vip = containers(lab), lab.vip()
    hosts.crash(lab)
    with hosts.next_boot(lab):
        assert not lab.status()["master"]["running"]
        last = before["probed"][1]
        with ThreadPoolExecutor() as beside:
            with hosts.slow_to_boot(lab, last):
                up = beside.submit(lab.labctl, "up", timeout_s=300)
                wait(
                    lambda: [condition(lab.get("node", minion), "Ready") for minion in MINIONS if minion != last] == ["True"],
                    "one is up",
                    60,
                )
                time.sleep(lab.evict_s + 2)  # longer than any pod tolerates a node that is not ready
            up.result()
        settled(lab)
        wait(lambda: condition(lab.get("pod", "fetched"), "Ready") == "True", "an image that was half on the disk is whole again", 30)
        after = containers(lab)
        assert {name: pod[:2] for name, pod in after.items()} == {name: pod[:2] for name, pod in before.items()}
        assert [s["restartCount"] - o["restartCount"] for n in before for s, o in zip(after[n][2], before[n][2], strict=True)] == [1] * 4
        assert lab.vip() == vip
        lab.kubectl("exec", "probed", "--", "true")
        lab.kubectl("delete", "pod", "fetched", "--now")
