"""`mountPropagation` on real machines: who sees what is mounted later, and that nothing of it harms a machine, its next boot, or the host."""

import json
from pathlib import Path

import pytest

from tests.e2e.cluster import condition, wait

FOLDER = "/srv/propagation"


@pytest.fixture(scope="module")
def cluster(new_cluster, images):
    made = new_cluster("propagation")
    made.labctl("up", "--minions", "1")
    return made


@pytest.fixture
def made(cluster):
    def make(thing):
        cluster.kubectl("create", "-f", "-", input=json.dumps(thing))
        running(cluster, thing["metadata"]["name"])

    yield make
    cluster.clear()
    for place in reversed(mounts_of_the_machine(cluster, FOLDER)):
        cluster.on("minion-1", "umount", place)
    cluster.on("minion-1", "rm", "-rf", FOLDER)


def pod(name, *mounts, path=FOLDER, **container):
    """A pod with one folder of its machine, mounted once for each of `mounts`: at a path, with more of the mount's fields."""
    mounted = [{"name": "host", "mountPath": at, **more} for at, more in mounts]
    main = {"name": "main", "image": "busybox", "command": ["sleep", "100000"], "volumeMounts": mounted, **container}
    host = {"name": "host", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [main], "volumes": [host]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def running(cluster, name):
    wait(lambda: condition(cluster.get("pod", name), "Ready") == "True", f"{name} is Ready", 40)


def seen(cluster, name, *paths):
    return [each for each in paths if cluster.kubectl("exec", name, "--", "cat", f"{each}/file", check=False).stdout == "seen\n"]


def mount_on_the_machine(cluster, folder):
    cluster.on("minion-1", "sh", "-c", f"mkdir -p {folder} && mount -t tmpfs t {folder} && echo seen > {folder}/file")


def mounts_of_the_machine(cluster, below):
    told = cluster.on("minion-1", "cat", "/proc/self/mounts").stdout.splitlines()
    return sorted(line.split()[1] for line in told if line.split()[1].startswith(below))


def test_what_is_mounted_on_the_machine_later_is_seen_where_that_is_asked_for(cluster, made):
    host = {"mountPropagation": "HostToContainer"}
    made(pod("later", ("/none", {"mountPropagation": "None"}), ("/plain", {}), ("/host", host), ("/below", {**host, "subPath": "a"})))
    made(pod("root", ("/root", {**host, "readOnly": True}), path="/"))  # as the node exporter has it
    mount_on_the_machine(cluster, f"{FOLDER}/a/disk")
    assert seen(cluster, "later", "/none/a/disk", "/plain/a/disk", "/host/a/disk", "/below/disk") == ["/host/a/disk", "/below/disk"]
    assert seen(cluster, "root", f"/root{FOLDER}/a/disk") == [f"/root{FOLDER}/a/disk"]
    cluster.kubectl("delete", "pod", "later", "root", "--force", "--grace-period=0")
    wait(lambda: mounts_of_the_machine(cluster, FOLDER) == [f"{FOLDER}/a/disk"], "pods take no mount of the machine with them")
    wait(lambda: not mounts_of_the_machine(cluster, "/var/lib/labctl/pods"), "nothing of the pods is left")


def test_what_a_privileged_container_mounts_is_seen_on_the_machine_and_harms_nothing_there(cluster, made):
    both = {"mountPropagation": "Bidirectional"}
    made(pod("driver", ("/host", both), securityContext={"privileged": True}))
    made(pod("user", ("/host", {"mountPropagation": "HostToContainer"})))
    cluster.kubectl("exec", "driver", "--", "sh", "-c", "mkdir /host/disk && mount -t tmpfs t /host/disk && echo seen > /host/disk/file")
    assert cluster.on("minion-1", "cat", f"{FOLDER}/disk/file").stdout == "seen\n"
    assert seen(cluster, "user", "/host/disk") == ["/host/disk"]
    cluster.kubectl("delete", "pod", "driver", "--force", "--grace-period=0")
    wait(lambda: "driver" not in cluster.kubectl("get", "pods", "-o", "name").stdout, "the driver is gone")
    assert seen(cluster, "user", "/host/disk") == ["/host/disk"], "it stays, as on any node"
    assert FOLDER not in Path("/proc/self/mounts").read_text(), "the host sees nothing of it"


def test_a_machine_with_such_mounts_is_powered_off_reset_halted_and_destroyed(cluster, made):
    both = {"mountPropagation": "Bidirectional"}
    driver = pod("driver", ("/host", both), securityContext={"privileged": True})
    driver["spec"]["containers"][0]["command"] = [
        "sh",
        "-c",
        "mkdir -p /host/disk && mount -t tmpfs t /host/disk && echo seen > /host/disk/file; sleep 100000",
    ]
    made(driver)
    for deeds in ([["fault", "reset", "minion-1"]], [["fault", "power-off", "minion-1"], ["up"]], [["halt"], ["up"]]):
        before = cluster.on("minion-1", "cat", "/proc/sys/kernel/random/boot_id").stdout
        for deed in deeds:
            cluster.labctl(*deed)
        again(cluster, before)
    cluster.labctl("destroy", "--yes")
    assert FOLDER not in Path("/proc/self/mounts").read_text()
    cluster.labctl("up", "--minions", "1")


def again(cluster, boot_id):
    """Wait until the machine has booted anew and the driver mounts as before."""

    def back():
        booted = cluster.on("minion-1", "cat", "/proc/sys/kernel/random/boot_id", check=False).stdout
        file = cluster.on("minion-1", "cat", f"{FOLDER}/disk/file", check=False).stdout
        return booted not in ("", boot_id) and file == "seen\n"

    wait(back, "the machine is back, and what its pods mount", 90)
