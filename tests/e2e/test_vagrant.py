"""What is said of virtual machines alone: Vagrant reaches them from the lab's folder, and what is done behind labctl's back is seen and mended."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cluster import PATIENCE, SEED, condition, crowded, wait

EXPERIMENTS = Path(__file__).parents[2] / "examples" / "experiments"
pytestmark = pytest.mark.skipif(os.environ.get("LABCTL_TEST_PROVIDER") != "vagrant", reason="of virtual machines: make test-vm")


def vagrant(cluster, *arguments: str) -> str:
    argv = ["vagrant", *arguments]
    done = subprocess.run(argv, cwd=cluster.folder, env=cluster.environment, text=True, capture_output=True, timeout=120 * PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def serving(enduring):
    if not enduring.items("rc"):
        enduring.kubectl("create", "-f", str(SEED / "nginx-rc.yml"), "-f", str(SEED / "nginx-service.yml"))
    wait(lambda: len(enduring.ready_pods()) == 2, "two pods are Ready", 60)
    return enduring


def test_vagrant_ssh_works_from_the_labs_folder_and_reaches_the_virtual_ip(serving):
    assert (serving.folder / "Vagrantfile").exists()
    assert "Welcome to nginx" in vagrant(serving, "ssh", "minion-1", "-c", f"curl -q -s {serving.vip()}")


def test_the_experiment_of_a_nodes_death_runs_on_virtual_machines(serving):
    """The same file as on namespace machines, once, with fewer requests and, where machines are emulated or the host is busy, a longer look."""
    slow = PATIENCE * min(3.0, crowded())
    shutil.copytree(EXPERIMENTS / "manifests", serving.folder / "manifests", dirs_exist_ok=True)
    text = (EXPERIMENTS / "node-death.yaml").read_text()
    text = text.replace("duration: 5s", f"duration: {5 * slow:.0f}s\nsteady_within: {60 * slow:.0f}s").replace(
        "rate: 200/s", "rate: 20/s, timeout: 5s"
    )
    text = text.replace("- outage < 0.5 s", f"- reaction < {2 * slow:.1f} s\n  - outage < {4 * slow:.1f} s")
    (serving.folder / "node-death.yaml").write_text(text)
    done = serving.labctl("experiment", "run", "node-death.yaml", "--repetitions", "1", timeout_s=200)
    assert "holds: reaction <" in done.stdout and "holds: outage <" in done.stdout
    kept = json.loads((serving.folder / "experiments" / "node-death" / "result.json").read_text())
    assert kept["runs"][0]["figures"]["requests"] > 50 and kept["facts"]["labs"]["minions=2"]["provider"] == "vagrant"
    wait(lambda: len(serving.ready_pods()) == 2, "the lab is as it was before", 60)


def test_a_machine_reloaded_behind_our_back_joins_again(serving):
    """An end and a beginning: its pods have moved by the time it is back, and it is used again without a word from us."""
    boot = serving.get("node", "minion-1")["status"]["nodeInfo"]["bootID"]
    vagrant(serving, "reload", "minion-1")
    wait(lambda: serving.get("node", "minion-1")["status"]["nodeInfo"]["bootID"] != boot, "another boot is registered", 60)
    wait(lambda: condition(serving.get("node", "minion-1"), "Ready") == "True", "it is Ready", 30)
    wait(
        lambda: {p["spec"]["nodeName"] for p in serving.ready_pods()} == {"minion-2"} and len(serving.ready_pods()) == 2,
        "its pods moved",
        60,
    )
    serving.kubectl("delete", "pod", serving.ready_pods()[0]["metadata"]["name"], "--wait=false")
    wait(lambda: {p["spec"]["nodeName"] for p in serving.ready_pods()} == {"minion-1", "minion-2"}, "it runs pods again", 60)
    assert "Welcome to nginx" in serving.curl("minion-1", serving.vip())


def test_a_machine_halted_behind_our_back_is_known_to_be_off_and_its_pods_move(serving):
    vagrant(serving, "halt", "minion-1")
    wait(lambda: {p["spec"]["nodeName"] for p in serving.ready_pods()} == {"minion-2"} and len(serving.ready_pods()) == 2, "both moved", 60)
    assert next(m for m in serving.status()["machines"] if m["name"] == "minion-1")["power"] == "Off"
    assert "Welcome to nginx" in serving.curl("minion-2", serving.vip())


def test_halt_and_up_bring_everything_back(serving):
    serving.labctl("halt")
    assert not serving.status()["master"]["running"]
    serving.labctl("up")
    wait(lambda: [condition(node, "Ready") for node in serving.items("nodes")] == ["True", "True"], "both nodes are Ready", 60)
    wait(lambda: len(serving.ready_pods()) == 2, "two pods are Ready", 60)
    assert "Welcome to nginx" in serving.curl("minion-1", serving.vip())


def test_destroy_leaves_nothing_behind(serving):
    identity = serving.status()["lab"]
    serving.labctl("destroy", "--yes")
    virsh = [["list", "--all", "--name"], ["net-list", "--all", "--name"], ["vol-list", "default"]]
    left = "".join(subprocess.run(["virsh", "-q", *words], capture_output=True, text=True).stdout for words in virsh)
    assert identity not in left
    assert sorted(path.name for path in serving.folder.iterdir() if path.name in (".labctl", ".vagrant", "Vagrantfile")) == []
