"""A lab's own life: up twice, two at once, killed half-way, halted, destroyed without a trace."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.cluster import condition, wait


def traces(folder: Path, identity: str) -> set[str]:
    """Control groups and mounts of a lab."""
    walked = os.walk("/sys/fs/cgroup")  # other labs' groups come and go meanwhile
    cgroups = {f"{folder}/{name}" for folder, names, _ in walked for name in names if identity in name}
    return cgroups | {line for line in Path("/proc/self/mounts").read_text().splitlines() if str(folder) in line or identity in line}


def network() -> set[str]:
    """The host's links and named network namespaces: a lab's carry no name of their own, so all of them count."""
    links = {link["ifname"] for link in json.loads(subprocess.run(["ip", "-j", "link"], capture_output=True, text=True).stdout)}
    return links | set(subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout.split())


def processes(folder: Path, identity: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            cgroup = (process / "cgroup").read_text()
        except OSError:
            continue
        if str(folder) in line or identity in line or identity in cgroup:
            found.append(f"{process.name}: {line}")
    return found


def record(cluster) -> dict:
    return json.loads((cluster.folder / ".labctl" / "lab.json").read_text())


@pytest.fixture
def lab(request, new_cluster, images):
    cluster = new_cluster(request.node.name.replace("test_", "")[:24])
    yield cluster
    cluster.destroy()


def test_up_again_is_quick_and_harmless(lab):
    lab.labctl("up", "--minions", "1")
    lab.kubectl("run", "steady", "--image=busybox", "--", "sleep", "3600")
    before = wait(lambda: (p := lab.get("pod", "steady")) and condition(p, "Ready") == "True" and p, "it runs")
    pid = lab.status()["master"]["pid"]
    lab.labctl("up", "--minions", "1")
    lab.labctl("up")
    after = lab.get("pod", "steady")
    assert lab.status()["master"]["pid"] == pid
    assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"]


def test_more_minions_are_added_and_fewer_refused(lab):
    lab.labctl("up", "--minions", "1")
    lab.labctl("up", "--minions", "2")
    assert [node["metadata"]["name"] for node in lab.items("nodes")] == ["minion-1", "minion-2"]
    refused = lab.labctl("up", "--minions", "1", check=False)
    assert refused.returncode == 2 and "labctl destroy minion-2" in refused.stderr
    lab.labctl("destroy", "minion-1", "--yes")
    lab.labctl("up")
    wait(lambda: [node["metadata"]["name"] for node in lab.items("nodes")] == ["minion-2"], "minion-1 is gone, and not missed")
    assert lab.items("machines")[0]["metadata"]["name"] == "minion-2"
    lab.labctl("up", "--minions", "2")
    assert [node["metadata"]["name"] for node in lab.items("nodes")] == ["minion-1", "minion-2"]


def test_two_ups_at_once_make_one_lab(lab):
    argv = [sys.executable, "-m", "labctl", "up", "--minions", "1"]
    both = [subprocess.Popen(argv, cwd=lab.folder, env=lab.environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], said
    assert any("is working on this lab" in text for text in said)
    assert len(lab.items("nodes")) == 1


def test_halt_and_up_bring_everything_back(lab):
    lab.labctl("up", "--minions", "1")
    lab.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    lab.labctl("halt")
    assert not lab.status()["master"]["running"]
    assert "there is no lab" not in lab.labctl("status").stdout
    lab.labctl("up")
    assert lab.get("configmap", "kept")["data"] == {"a": "b"}
    assert condition(lab.get("node", "minion-1"), "Ready") == "True"


def test_halt_stops_machines_whose_master_was_killed(lab):
    lab.labctl("up", "--minions", "1")
    identity = record(lab)["id"]
    os.kill(lab.status()["master"]["pid"], signal.SIGKILL)
    assert any("sshd" in line for line in processes(lab.folder, identity))
    lab.labctl("halt")
    wait(lambda: not any("sshd" in line for line in processes(lab.folder, identity)), "the machine is off", 10)


def test_a_master_killed_at_any_moment_is_started_by_the_next_command(lab):
    lab.labctl("up", "--minions", "1")
    lab.kubectl("run", "steady", "--image=busybox", "--", "sleep", "3600")
    before = wait(lambda: (p := lab.get("pod", "steady")) and condition(p, "Ready") == "True" and p, "it runs")
    os.kill(lab.status()["master"]["pid"], signal.SIGKILL)
    assert "steady" in lab.labctl("get", "pods").stdout
    wait(lambda: lab.kubectl("exec", "steady", "--", "echo", "hello", check=False).stdout == "hello\n", "exec works again")
    assert lab.get("pod", "steady")["status"]["containerStatuses"] == before["status"]["containerStatuses"]


@pytest.mark.parametrize("after_s", [0.1, 0.4, 0.8, 1.2])
def test_up_killed_half_way_is_finished_by_the_next(lab, after_s):
    argv = [sys.executable, "-m", "labctl", "up", "--minions", "2"]
    process = subprocess.Popen(argv, cwd=lab.folder, env=lab.environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    time.sleep(after_s)  # the moment at which it dies is what is being tried
    process.kill()
    process.wait()
    lab.labctl("up", "--minions", "2")
    assert [condition(node, "Ready") for node in lab.items("nodes")] == ["True", "True"]


def test_destroy_leaves_nothing_behind(new_cluster, images):
    before = network()
    cluster = new_cluster("traceless")
    cluster.labctl("up", "--minions", "2")
    cluster.kubectl("run", "one", "--image=busybox", "--", "sleep", "3600")
    wait(lambda: condition(cluster.get("pod", "one"), "Ready") == "True", "it runs")
    lab_json = record(cluster)
    state, identity = Path(lab_json["state"]), lab_json["id"]
    assert len(processes(cluster.folder, identity)) > 4 and traces(cluster.folder, identity)
    cluster.labctl("destroy", "--yes")
    wait(lambda: not processes(cluster.folder, identity), "no process is left", 10)
    assert not state.exists() and not (cluster.folder / ".labctl").exists()
    assert not traces(cluster.folder, identity)
    assert network() <= before


def test_destroy_works_after_everything_was_killed(lab):
    lab.labctl("up", "--minions", "1")
    state, identity = Path(record(lab)["state"]), record(lab)["id"]
    os.kill(lab.status()["master"]["pid"], signal.SIGKILL)
    lab.labctl("destroy", "--yes")
    wait(lambda: not processes(lab.folder, identity), "no process is left", 10)
    assert not state.exists()


def test_no_minions_needs_no_machine(lab):
    lab.labctl("up", "--minions", "0")
    lab.kubectl("create", "configmap", "a")
    assert lab.status()["machines"] == [] and len(lab.items("namespaces")) >= 4


@pytest.mark.skipif(os.environ.get("LABCTL_TEST_PROVIDER", "namespace") != "namespace", reason="what mounts and dials by these names")
def test_a_lab_in_folders_with_odd_names(new_cluster, images, tmp_path_factory):
    state = tmp_path_factory.mktemp("odd") / "it's 100%h,lowerdir=x:y\\z"
    lab = new_cluster('it\'s "a b" 100%h\\ü,x', LABCTL_STATE_HOME=str(state))
    lab.labctl("up", "--minions", "1")
    lab.kubectl("run", "steady", "--image=busybox", "--", "sleep", "3600")
    wait(lambda: condition(lab.get("pod", "steady"), "Ready") == "True", "it runs")
    assert lab.on("minion-1", "uname", "-n").stdout == "minion-1\n"
    lab.labctl("halt")
    lab.labctl("up")
    assert lab.on("minion-1", "uname", "-n").stdout == "minion-1\n"
    lab.labctl("destroy", "--yes")
    assert not list(state.iterdir())
