"""Pods with users of their own (`hostUsers: false`) on real machines: root inside is nobody outside, and all else of a pod goes on as usual."""

import json

import pytest

from tests.e2e.cluster import condition, wait

SAFE = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}
SLEEP = ["sleep", "100000"]


@pytest.fixture(scope="module")
def cluster(new_cluster, images):
    made = new_cluster("own-users")
    made.labctl("up", "--minions", "1")
    return made


@pytest.fixture
def made(cluster):
    def make(*things):
        for thing in things:
            cluster.kubectl("create", "-f", "-", input=json.dumps(thing))
        for thing in things:
            if thing["kind"] == "Pod":
                running(cluster, thing["metadata"]["name"])

    yield make
    cluster.clear()


def pod(name, *containers, volumes=(), **spec):
    made = [{"name": f"c{number}", "image": "busybox", "command": SLEEP, **each} for number, each in enumerate(containers or ({},))]
    whole = {"hostUsers": False, "terminationGracePeriodSeconds": 0, "containers": made, "volumes": list(volumes), **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole}


def running(cluster, name):
    wait(lambda: condition(cluster.get("pod", name), "Ready") == "True", f"{name} is Ready", 40)


def said(cluster, name, script, container="c0", check=True):
    return cluster.kubectl("exec", name, "-c", container, "--", "sh", "-c", script, check=check).stdout


def first_user(cluster, name):
    inside, outside, many = said(cluster, name, "cat /proc/self/uid_map").split()
    assert (inside, many) == ("0", "65536")
    return int(outside)


def user_on_the_machine(cluster, name):
    """Who runs the pod's first container, as its machine sees it."""
    folder = f"/var/lib/labctl/agent/pods/{cluster.get('pod', name)['metadata']['uid']}/containers/c0"
    return int(cluster.on("minion-1", "sh", "-c", f"stat -c %u /proc/$(cat {folder}/*/pid)").stdout)


def test_all_of_a_pod_is_as_usual_and_its_root_is_nobody_on_the_machine(cluster, made):
    every = [{"name": each, "mountPath": f"/{each}"} for each in ("disk", "memory", "files", "token")]
    token = [
        {"serviceAccountToken": {"path": "token"}},
        {"downwardAPI": {"items": [{"path": "me", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    volumes = (
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "files", "configMap": {"name": "files"}},
        {"name": "token", "projected": {"sources": token}},
    )
    root = {
        "command": ["sh", "-c", "id -u; sleep 100000"],
        "volumeMounts": [*every, {"name": "disk", "mountPath": "/part", "subPath": "a/b"}],
        "readinessProbe": {"exec": {"command": ["cat", "/files/key"]}, "periodSeconds": 1},
    }
    user = {"securityContext": {"runAsUser": 1000}, "volumeMounts": every}
    files = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}, "data": {"key": "value"}}
    made(files, pod("whole", root, user, volumes=volumes, securityContext={"fsGroup": 2000}), pod("other"))
    first = first_user(cluster, "whole")
    assert first % 65_536 == 0 and first != first_user(cluster, "other")
    assert user_on_the_machine(cluster, "whole") == first
    assert cluster.kubectl("logs", "whole", "-c", "c0").stdout == "0\n"
    assert "eyJ" in said(cluster, "whole", "cat /token/token")
    assert said(cluster, "whole", "cat /token/me /files/key") == "wholevalue"
    written = "touch /disk/x && touch /memory/x && id -u && stat -c '%u %g' /disk/x /memory/x"
    assert said(cluster, "whole", written, "c1").split() == ["1000", "1000", "2000", "1000", "2000"]
    said(cluster, "whole", "touch /part/x /dev/shm/x /etc/x && ping -c 1 -W 2 $(ip route | awk '/default/ {print $3}') || true")
    host = cluster.on("minion-1", "sh", "-c", "stat -c '%u %g' /var/lib/labctl/agent/pods/*/volumes/disk/x").stdout
    assert host.split() == ["1000", "2000"], "on the disk as without users of its own"
    debug = (
        "debug",
        "whole",
        "--image=busybox",
        "--target=c0",
        "-c",
        "look",
        "--",
        "sh",
        "-c",
        "cat /proc/1/cmdline; cat /proc/self/uid_map",
    )
    cluster.kubectl(*debug)
    wait(lambda: str(first) in cluster.kubectl("logs", "whole", "-c", "look", check=False).stdout, "a debugger shares the pod's users")


def test_what_root_may_do_ends_with_the_pods_own_namespaces(cluster, made):
    made(pod("strong", {"securityContext": {"privileged": True}}))
    said(cluster, "strong", "mkdir /t && mount -t tmpfs t /t && mount -t proc p /t && hostname other")
    for script in (
        "echo 1 > /proc/sys/vm/stat_interval",
        "echo 1 > /t/sys/vm/stat_interval",
        "echo 100 > /sys/kernel/mm/ksm/sleep_millisecs || echo 0 > /sys/kernel/profiling",
        "mknod /d b 8 0 && head -c 1 /d",
        "cd /sys/fs/cgroup; [ -d memory ] && cd memory; mkdir x",
    ):
        assert cluster.kubectl("exec", "strong", "--", "sh", "-c", script, check=False).returncode, script
    assert cluster.on("minion-1", "hostname").stdout == "minion-1\n"


def test_such_a_pod_may_be_root_where_pods_are_restricted(cluster, made):
    cluster.kubectl("create", "namespace", "strict")
    cluster.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    rooted = pod("rooted", {"securityContext": {**SAFE, "runAsUser": 0}})
    rooted["metadata"]["namespace"] = "strict"
    plain = {**rooted, "spec": {**rooted["spec"], "hostUsers": True}}
    assert "runAsNonRoot" in cluster.kubectl("create", "-f", "-", input=json.dumps(plain), check=False).stderr
    cluster.kubectl("create", "-f", "-", input=json.dumps(rooted))
    wait(lambda: condition(cluster.get("pod", "-n", "strict", "rooted"), "Ready") == "True", "it runs", 40)
    assert cluster.kubectl("exec", "-n", "strict", "rooted", "--", "id", "-u").stdout == "0\n"
    cluster.kubectl("delete", "namespace", "strict")


def test_what_can_not_be_had_is_said(cluster, made):
    cluster.kubectl("create", "-f", "-", input=json.dumps(pod("hosts", volumes=[{"name": "v", "hostPath": {"path": "/etc"}}])))
    running(cluster, "hosts")  # it does not mount it
    mounting = pod("mounts", {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, volumes=[{"name": "v", "hostPath": {"path": "/etc"}}])
    cluster.kubectl("create", "-f", "-", input=json.dumps(mounting))

    def why():
        return cluster.get("pod", "mounts")["status"]["containerStatuses"][0]["state"]["waiting"]["message"]

    wait(lambda: "failed to map the owners of /etc" in why(), "a machine's own files on an overlay are of its own users")
    many = pod("many", {"securityContext": {"runAsUser": 70_000}})
    cluster.kubectl("create", "-f", "-", input=json.dumps(many))
    wait(lambda: "from 0 to 65535" in json.dumps(cluster.get("pod", "many")["status"]), "a user that it does not have")
    network = pod("network", hostNetwork=True)
    assert "when `hostUsers` is false" in cluster.kubectl("create", "-f", "-", input=json.dumps(network), check=False).stderr


def test_users_stay_a_pods_own_through_its_agents_and_its_machines_end(cluster, made):
    made(pod("one"), pod("two", shareProcessNamespace=True))
    before = {name: first_user(cluster, name) for name in ("one", "two")}
    assert said(cluster, "two", "stat -c %u /proc/1; cat /proc/1/cmdline").startswith("0\nsleep"), (
        "what holds its processes is its own root's"
    )
    cluster.labctl("fault", "kill-process", "minion-1", "-p", "process=agent")
    made(pod("three"))
    assert {name: first_user(cluster, name) for name in before} == before
    assert first_user(cluster, "three") not in before.values()
    cluster.kubectl("exec", "one", "--", "sh", "-c", "kill -9 -1", check=False)
    cluster.labctl("fault", "reset", "minion-1")
    wait(lambda: cluster.get("pod", "one")["status"]["containerStatuses"][0]["restartCount"] >= 1, "it began again", 60)
    for name in ("one", "two", "three"):
        running(cluster, name)
    assert len({first_user(cluster, name) for name in ("one", "two", "three")}) == 3
    for name in ("one", "two", "three"):
        assert user_on_the_machine(cluster, name) == first_user(cluster, name)
