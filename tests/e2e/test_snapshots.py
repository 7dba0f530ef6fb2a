"""Snapshots: a lab that is gone comes back, in its folder or in another; watches never see time go back; a kill at any moment costs nothing."""

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.cluster import PATIENCE, SEED, condition, wait


@pytest.fixture(scope="module")
def cache(state):
    """Snapshots of this run, beside the machine's own root file systems and images."""
    machine = Path(os.environ.get("LABCTL_CACHE_HOME", "/var/cache/labctl"))
    folder = state / "cache"
    folder.mkdir()
    for part in machine.iterdir():
        (folder / part.name).symlink_to(part)
    (folder / "snapshots").unlink(missing_ok=True)
    return folder


@pytest.fixture(scope="module")
def home(new_cluster, images, cache):
    """The seed scenario on two minions, and the snapshot `seed` of it."""
    cluster = new_cluster("snapshots", LABCTL_CACHE_HOME=str(cache))
    seed(cluster)
    cluster.labctl("snapshot", "save", "seed")
    yield cluster
    cluster.destroy()


@pytest.fixture
def lab(home):
    """That lab as it was saved, whatever became of it since: what snapshots are for."""
    home.labctl("up", "--from", "seed")
    return home


@pytest.fixture
def fresh(request, new_cluster, cache):
    """No lab yet."""
    cluster = new_cluster(request.node.name.replace("test_", "")[:24], LABCTL_CACHE_HOME=str(cache))
    yield cluster
    cluster.destroy()


@pytest.fixture
def snapshot(request, home):
    """A name for a snapshot, which is gone afterwards."""
    name = request.node.name.replace("test_", "")[:20]
    yield name
    home.labctl("snapshot", "delete", name, check=False)


def seed(cluster) -> str:
    """The seed scenario on two minions; answers the VIP, which answers."""
    cluster.labctl("up", "--minions", "2")
    cluster.kubectl("create", "-f", str(SEED / "nginx-rc.yml"), "-f", str(SEED / "nginx-service.yml"))
    wait(lambda: len(cluster.ready_pods()) == 2, "both pods are Ready")
    wait(lambda: answers(cluster), "the VIP answers")
    return cluster.vip()


def answers(cluster) -> bool:
    return all("nginx" in cluster.curl(minion, f"http://{cluster.vip()}/", check=False) for minion in ("minion-1", "minion-2"))


def names(cluster, kind: str) -> list[str]:
    return [each["metadata"]["name"] for each in cluster.items(kind)]


def keeps_memory(cluster, snapshot: str) -> bool:
    """Whether machines continue where they were, as `labctl snapshot list` says. All that differs from provider to provider follows from it."""
    listed = json.loads(cluster.labctl("snapshot", "list", "-o", "json").stdout)
    return next(each["memory"] for each in listed if each["name"] == snapshot)


def boot_ids(cluster) -> dict[str, str]:
    return {node["metadata"]["name"]: node["status"]["nodeInfo"]["bootID"] for node in cluster.items("nodes")}


def begin(cluster, *arguments: str) -> subprocess.Popen:
    argv = [sys.executable, "-m", "labctl", *arguments]
    return subprocess.Popen(argv, cwd=cluster.folder, env=cluster.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_lab_that_was_destroyed_comes_back_as_it_was(lab, snapshot):
    lab.kubectl("create", "configmap", "settings", "--from-literal=colour=green")
    lab.on("minion-1", "tee", "/root/note", "-a", "/etc/hostname")
    before = {pod["metadata"]["name"]: pod for pod in lab.pods()}
    vip, key, boots = lab.vip(), client_key(lab), boot_ids(lab)
    lab.labctl("snapshot", "save", snapshot)
    memory = keeps_memory(lab, snapshot)
    assert [pod["status"]["containerStatuses"] for pod in lab.pods()] == [pod["status"]["containerStatuses"] for pod in before.values()]
    lab.labctl("destroy", "--yes")
    lab.labctl("up", "--from", snapshot)
    after = {pod["metadata"]["name"]: pod for pod in lab.ready_pods()}
    assert after.keys() == before.keys(), "they are Ready when up returns"
    for name, pod in after.items():
        was = before[name]
        assert pod["metadata"]["uid"] == was["metadata"]["uid"] and pod["spec"]["nodeName"] == was["spec"]["nodeName"]
        [container], [container_was] = pod["status"]["containerStatuses"], was["status"]["containerStatuses"]
        assert container["restartCount"] == container_was["restartCount"] + (0 if memory else 1)
        assert (container["containerID"] == container_was["containerID"]) == memory, "its very processes go on, or others"
    assert (boot_ids(lab) == boots) == memory
    for minion in boots:
        assert abs(float(lab.on(minion, "date", "+%s.%N").stdout) - time.time()) < 3 * PATIENCE, "its clock is right"
    assert lab.vip() == vip
    wait(lambda: answers(lab), "the VIP answers", 5)
    assert lab.get("configmap", "settings")["data"] == {"colour": "green"}
    assert lab.on("minion-1", "ls", "/root/note").stdout == "/root/note\n"
    assert client_key(lab) == key, "copies of the kubeconfig stay good"
    lab.kubectl("scale", "rc", "nginx-controller", "--replicas=3")
    wait(lambda: len(lab.ready_pods()) == 3, "it goes on as any lab")


def test_no_image_is_fetched_again_though_the_disk_had_not_confirmed_it(lab, snapshot):
    mark = "cd /var/lib/labctl/agent; rm -f images/settled/*; for layer in layers/*; do echo kept > $layer/mark; done"
    lab.on("minion-1", "sh", "-c", mark)
    lab.labctl("snapshot", "save", snapshot)
    lab.labctl("snapshot", "restore", snapshot)
    marks = lab.on("minion-1", "sh", "-c", "cat /var/lib/labctl/agent/layers/*/mark").stdout.split()
    assert marks and set(marks) == {"kept"}


def client_key(cluster) -> str:
    return cluster.kubectl("config", "view", "--raw", "-o", "jsonpath={.users[0].user.client-key-data}").stdout


def test_what_was_done_since_is_undone_in_the_same_lab(lab):
    before = names(lab, "pods")
    lab.kubectl("delete", "rc", "nginx-controller")
    lab.kubectl("create", "namespace", "mess")
    lab.on("minion-2", "rm", "-rf", "/usr/sbin/iptables-restore", "/opt/labctl")
    lab.labctl("fault", "power-off", "minion-1")
    lab.labctl("snapshot", "restore", "seed")
    assert names(lab, "pods") == before and "mess" not in names(lab, "namespaces")
    assert [condition(node, "Ready") for node in lab.items("nodes")] == ["True", "True"]
    assert not any("taints" in node["spec"] for node in lab.items("nodes"))
    wait(lambda: answers(lab), "the VIP answers", 5)
    lab.labctl("up")  # finds nothing to do
    assert names(lab, "pods") == before


def test_two_labs_begin_from_one_snapshot(lab, fresh):
    if keeps_memory(lab, "seed"):
        pytest.skip("machines that go on have their addresses in their memory")
    fresh.labctl("up", "--from", "seed", "--minions", "3")
    assert names(fresh, "nodes") == ["minion-1", "minion-2", "minion-3"]
    assert names(fresh, "pods") == names(lab, "pods")
    fresh.kubectl("delete", "svc", "web-service")
    fresh.labctl("halt", "minion-1")
    assert answers(lab)
    assert fresh.status()["lab"] != lab.status()["lab"]


def test_machines_that_go_on_do_so_in_one_lab_at_a_time(lab, fresh):
    if not keeps_memory(lab, "seed"):
        pytest.skip("machines that boot have addresses of their lab's own network")
    lab.on("minion-1", "touch", "/root/untouched")
    refused = fresh.labctl("up", "--from", "seed", check=False)
    assert refused.returncode == 1 and f"{lab.status()['lab']} on this host has the addresses" in refused.stderr, refused.stderr
    assert not (fresh.folder / ".labctl").exists()
    assert answers(lab) and lab.on("minion-1", "ls", "/root/untouched", check=False).returncode == 0
    was, pods = lab.status()["lab"], {pod["metadata"]["uid"] for pod in lab.pods()}
    lab.labctl("destroy", "--yes")
    fresh.labctl("up", "--from", "seed")
    assert fresh.status()["lab"] != was and {pod["metadata"]["uid"] for pod in fresh.ready_pods()} == pods
    assert answers(fresh)
    fresh.labctl("up")  # finds nothing to do
    fresh.kubectl("scale", "rc", "nginx-controller", "--replicas=3")
    wait(lambda: len(fresh.ready_pods()) == 3, "it goes on as any lab")


class Watcher:
    """A client as client-go's informers are: list, watch from there, at 410 list again; every revision it is shown, in order."""

    def __init__(self, cluster) -> None:
        self._pki = cluster.folder / ".labctl" / "pki"
        self._url = cluster.kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}").stdout

    def get(self, path: str, timeout_s: float = 20):
        context = ssl.create_default_context(cafile=self._pki / "ca.crt")
        context.load_cert_chain(self._pki / "admin.crt", self._pki / "admin.key")
        return urllib.request.urlopen(self._url + path, context=context, timeout=timeout_s)

    def list(self) -> tuple[int, set[str]]:
        page = json.load(self.get("/api/v1/configmaps?labelSelector=watched"))
        return int(page["metadata"]["resourceVersion"]), {item["metadata"]["name"] for item in page["items"]}

    def watch(self, since: int):
        return self.get(f"/api/v1/configmaps?labelSelector=watched&watch=1&timeoutSeconds=60&resourceVersion={since}")


def make(cluster, name: str) -> None:
    cluster.kubectl("create", "configmap", name)
    cluster.kubectl("label", "configmap", name, "watched=yes")


def test_a_watch_across_a_restore_is_told_to_list_again_and_time_goes_on(lab, snapshot):
    make(lab, "kept")
    lab.labctl("snapshot", "save", snapshot)
    watcher = Watcher(lab)
    began, _ = watcher.list()
    stream = watcher.watch(began)
    make(lab, "later")
    event = json.loads(stream.readline())
    seen = int(event["object"]["metadata"]["resourceVersion"])
    assert event["object"]["metadata"]["name"] == "later" and seen > began
    watching = subprocess.Popen(
        ["kubectl", "get", "configmaps", "-l", "watched", "--watch", "-o", "name"],
        env={**lab.environment, "KUBECONFIG": str(lab.folder / ".labctl" / "kubeconfig")}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watching.stdout.readline() == "configmap/kept\n"
    lab.labctl("snapshot", "restore", snapshot)
    assert stream.read() == b"", "the watch ended, and showed nothing that is not so any more"
    assert watching.wait(20) is not None, "kubectl's too"
    for since in (began, seen):
        told = json.loads(watcher.watch(since).readline())
        assert (told["type"], told["object"]["code"], told["object"]["reason"]) == ("ERROR", 410, "Expired")
    now, there = watcher.list()
    assert now > seen and there == {"kept"}
    stream = watcher.watch(now)
    make(lab, "after")
    event = json.loads(stream.readline())
    assert event["object"]["metadata"]["name"] == "after" and int(event["object"]["metadata"]["resourceVersion"]) > now


def test_a_save_that_is_killed_is_no_snapshot_and_the_lab_goes_on(lab, snapshot):
    for after_s in (0.2, 0.35, 0.5):
        saving = begin(lab, "snapshot", "save", snapshot)
        time.sleep(after_s * PATIENCE)  # the moment at which it dies is what is being tried
        saving.kill()
        saving.wait()
        wait(lambda: {machine["power"] for machine in lab.status()["machines"]} == {"On"}, "the machines go on", 5)
        assert answers(lab)
        lab.labctl("snapshot", "delete", snapshot, check=False)
        lab.labctl("snapshot", "save", snapshot)
        folder = Path(lab.environment["LABCTL_CACHE_HOME"]) / "snapshots"
        assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == sorted(["seed", snapshot])
        lab.labctl("snapshot", "delete", snapshot)


def test_a_restore_that_is_killed_is_finished_by_up(lab):
    before, highest = names(lab, "pods"), 0
    for after_s in (0.4, 0.8, 1.4):
        make(lab, "later")
        highest = Watcher(lab).list()[0]
        restoring = begin(lab, "snapshot", "restore", "seed")
        time.sleep(after_s * PATIENCE)  # as above
        restoring.kill()
        restoring.wait()
        if "restoring" in json.loads((lab.folder / ".labctl" / "lab.json").read_text()):
            refused = lab.labctl("get", "pods", check=False)
            assert refused.returncode == 1 and "`labctl up` finishes it" in refused.stderr
            lab.labctl("up")
        else:
            lab.labctl("snapshot", "restore", "seed")
        assert names(lab, "pods") == before
        now, there = Watcher(lab).list()
        assert now > highest and not there
        wait(lambda: answers(lab), "the VIP answers", 10)


def test_a_master_killed_after_a_restore_finds_what_was_restored(lab):
    pods = lab.pods()
    os.kill(lab.status()["master"]["pid"], signal.SIGKILL)
    lab.labctl("get", "pods")
    assert [pod["status"]["containerStatuses"] for pod in lab.pods()] == [pod["status"]["containerStatuses"] for pod in pods]
    wait(lambda: answers(lab), "the VIP answers", 5)


def test_a_halted_lab_can_be_saved(lab, snapshot):
    vip = lab.vip()
    lab.labctl("halt")
    lab.labctl("snapshot", "save", snapshot)
    lab.labctl("destroy", "--yes")
    lab.labctl("up", "--from", snapshot)
    wait(lambda: len(lab.ready_pods()) == 2, "the pods are back")
    assert lab.vip() == vip
    wait(lambda: answers(lab), "the VIP answers", 10)


def test_a_lab_without_machines_can_be_saved_too(fresh, snapshot):
    fresh.labctl("up", "--minions", "0")
    make(fresh, "kept")
    fresh.labctl("snapshot", "save", snapshot)
    fresh.labctl("destroy", "--yes")
    fresh.labctl("up", "--minions", "0", "--from", snapshot)
    assert [item["metadata"]["name"] for item in fresh.items("configmaps", "-l", "watched")] == ["kept"]


def test_mistakes_are_one_line_and_change_nothing(lab, fresh):
    def refused(cluster, *arguments: str) -> str:
        done = cluster.labctl(*arguments, check=False)
        assert done.returncode in (1, 2) and "Traceback" not in done.stderr, done.stderr
        return done.stderr.strip().splitlines()[-1]

    assert "there is no lab in" in refused(fresh, "snapshot", "save", "a")
    assert "there is no lab in" in refused(fresh, "snapshot", "restore", "seed")
    assert "there is no snapshot a: there are seed" in refused(fresh, "up", "--from", "a")
    assert not (fresh.folder / ".labctl").exists()
    before = lab.status()["master"]["pid"]
    assert "is no name for a snapshot" in refused(lab, "snapshot", "save", "../a")
    assert "there is a snapshot seed already" in refused(lab, "snapshot", "save", "seed")
    assert "there is no snapshot b: there are seed" in refused(lab, "snapshot", "restore", "b")
    assert "there is no snapshot b: there are seed" in refused(lab, "snapshot", "delete", "b")
    assert "snapshot seed has 2 minions, more than that" in refused(lab, "up", "--from", "seed", "--minions", "1")
    assert "this lab was made with network route, not vxlan" in refused(lab, "up", "--from", "seed", "--network", "vxlan")
    assert "snapshot seed was saved with network route, not vxlan" in refused(fresh, "up", "--from", "seed", "--network", "vxlan")
    assert not (fresh.folder / ".labctl").exists()
    assert lab.status()["master"]["pid"] == before


def test_a_pod_that_had_ended_stays_ended_and_what_ran_runs_again_or_has_failed(lab, snapshot):
    def bare(name: str, command: list[str], policy: str, **spec) -> dict:
        container = {"name": "main", "image": "busybox", "command": command}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"containers": [container], "restartPolicy": policy, **spec},
        }

    first = {"name": "first", "image": "busybox", "command": ["true"]}
    prepared = bare("prepared", ["sleep", "1000"], "Always", initContainers=[first])
    for thing in (bare("done", ["true"], "Never"), bare("ran", ["sleep", "1000"], "Never"), prepared):
        lab.kubectl("create", "-f", "-", input=json.dumps(thing))
    wait(lambda: lab.get("pod", "done")["status"].get("phase") == "Succeeded", "it has ended")
    wait(lambda: all(condition(lab.get("pod", name), "Ready") == "True" for name in ("ran", "prepared")), "they run")
    lab.labctl("snapshot", "save", snapshot)
    memory = keeps_memory(lab, snapshot)
    done = lab.get("pod", "done")["status"]
    began = time.monotonic()
    lab.labctl("snapshot", "restore", snapshot)
    assert time.monotonic() - began < 20 * PATIENCE, "nobody waits for a pod that will not be Ready again"
    assert lab.get("pod", "done")["status"]["containerStatuses"] == done["containerStatuses"]
    assert condition(lab.get("pod", "prepared"), "Ready") == "True"
    if not memory:
        ended = lab.get("pod", "ran")["status"]
        assert (ended["phase"], ended["containerStatuses"][0]["state"]["terminated"]["reason"]) == ("Failed", "ContainerStatusUnknown")
        restarts = lab.get("pod", "prepared")["status"]
        assert restarts["initContainerStatuses"][0]["restartCount"] == 1, "a machine that booted runs init containers again"
        assert restarts["containerStatuses"][0]["restartCount"] == 1
