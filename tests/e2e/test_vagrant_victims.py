"""Faults that need a machine of its own: a disk that no host shares, and a clock of its own; and the others with cgroups of version 2."""

import json
import os
import signal
import time

import pytest

from tests.e2e.cluster import PATIENCE, condition, wait
from tests.e2e.test_fault_victims import create, fault, heal, name_of, nothing_is_left, pod, status

pytestmark = pytest.mark.skipif(os.environ.get("LABCTL_TEST_PROVIDER") != "vagrant", reason="of virtual machines: make test-vm")
SKEW_S = 3600


@pytest.fixture(scope="module")
def lab(enduring):
    """A pod with a shell and a folder on its machine's disk. Scenarios of another file may have destroyed the lab at their end."""
    enduring.labctl("up", "--minions", "2", timeout_s=600)
    create(enduring, pod("shell", "minion-1", limits={"memory": "64Mi", "cpu": "500m"}))
    ready(enduring)
    yield enduring
    enduring.labctl("fault", "heal", "--all")
    assert nothing_is_left(enduring, "minion-1")
    enduring.kubectl("delete", "pod", "shell", "--force", "--grace-period=0", check=False)


def ready(lab):
    wait(lambda: condition(lab.get("pod", "shell"), "Ready") == "True", "the pod is Ready", 60)


def in_pod(lab, *command, check=True):
    return lab.kubectl("exec", "shell", "--", *command, check=check)


def kill_master(lab):
    os.kill(lab.status()["master"]["pid"], signal.SIGKILL)
    lab.labctl("up")


def writes(lab, megabytes):
    return in_pod(lab, "dd", "if=/dev/zero", "of=/data/x", "bs=1M", f"count={megabytes}", "conv=fsync", check=False)


def test_the_disk_is_full_inside_a_pod_until_it_is_healed(lab):
    made = fault(lab, "fill-disk", "minion-1", "-p", "left=16Mi")
    full = writes(lab, 40)
    assert full.returncode and "No space left" in full.stderr, full
    assert "MiB are free" in made["status"]["done"][0]
    assert condition(lab.get("node", "minion-1"), "Ready") == "True"
    in_pod(lab, "rm", "-f", "/data/x")
    heal(lab, made)
    assert writes(lab, 40).returncode == 0
    in_pod(lab, "rm", "-f", "/data/x")
    assert nothing_is_left(lab, "minion-1")


def test_a_full_disk_is_emptied_by_the_next_master(lab):
    made = fault(lab, "fill-disk", "minion-1", "--for", f"{3 * PATIENCE:g}s")
    kill_master(lab)
    wait(lambda: lab.get("fault", name_of(made))["status"]["phase"] == "Healed", "it is healed", 40)
    assert nothing_is_left(lab, "minion-1") and writes(lab, 40).returncode == 0
    in_pod(lab, "rm", "-f", "/data/x")


def is_ahead(lab, seconds):
    """Whether the machine's clock is ahead of ours by so much, as far as the time that the answer took lets it be told."""
    before = time.time()
    said = float(lab.on("minion-1", "date", "+%s.%N").stdout)
    after = time.time()
    return before + seconds - 2 <= said <= after + seconds + 2


def test_a_skewed_clock_stays_skewed_until_it_is_healed(lab):
    made = fault(lab, "skew-clock", "minion-1", "-p", f"by={SKEW_S}s")
    assert is_ahead(lab, SKEW_S)
    assert float(in_pod(lab, "date", "+%s").stdout) > time.time() + SKEW_S / 2, "its pods see it"
    kill_master(lab)  # a new master joins the machine, and corrects clocks
    wait(lambda: condition(lab.get("node", "minion-1"), "Ready") == "True", "it is Ready", 60)
    assert is_ahead(lab, SKEW_S)
    refused = fault(lab, "skew-clock", "minion-1", "-p", "by=-5s", check=False)
    assert refused.returncode == 1 and name_of(made) in refused.stderr
    heal(lab, made)
    assert is_ahead(lab, 0) and nothing_is_left(lab, "minion-1")


def write_s(lab):
    began = time.monotonic()
    in_pod(lab, "dd", "if=/dev/zero", "of=/data/x", "bs=256k", "count=16", "conv=fsync")
    return time.monotonic() - began


def test_a_slow_disk_bounds_all_pods_together(lab):
    made = fault(lab, "slow-disk", "minion-1", "-p", "rate=512Ki", "-p", "operations=write")
    assert write_s(lab) > 7
    assert "all pods together" in made["status"]["done"][0]
    heal(lab, made)
    assert write_s(lab) < 7
    in_pod(lab, "rm", "-f", "/data/x")


def group(lab, file):
    path = f"/sys/fs/cgroup/pods/{lab.get('pod', 'shell')['metadata']['uid']}/app-{status(lab, 'shell')['restartCount']}/{file}"
    return lab.on("minion-1", "sh", "-c", f"cat {path} 2>/dev/null || true").stdout


def test_containers_are_stopped_and_burdened(lab):
    made = [fault(lab, type_, "pod/default/shell", *more) for type_, *more in (("stop-container",), ("burn-cpu", "-p", "cpus=1"))]
    wait(lambda: len(group(lab, "cgroup.procs").split()) == 2, "something burns in the container's group")
    for each in made:
        heal(lab, each)
    assert len(group(lab, "cgroup.procs").split()) == 1
    made = fault(lab, "burn-memory", "pod/default/shell", "-p", "size=50%")
    wait(lambda: int(group(lab, "memory.current") or 0) > 32 << 20, "it is charged to the container")
    heal(lab, made)
    fault(lab, "burn-memory", "pod/default/shell", "-p", "size=200%")
    wait(lambda: status(lab, "shell")["restartCount"] == 1, "the container was started again", 60)
    assert status(lab, "shell")["lastState"]["terminated"]["reason"] == "OOMKilled", json.dumps(status(lab, "shell"))
    ready(lab)


def test_a_full_disk_is_emptied_when_the_machine_is_there_again(lab):
    """The last one: a bare pod of a machine that was certainly off is gone."""
    made = fault(lab, "fill-disk", "minion-1")
    lab.labctl("fault", "reset", "minion-1")
    lab.kubectl("patch", "fault", name_of(made), "--type=merge", "-p", '{"spec": {"heal": true}}')
    wait(lambda: lab.get("fault", name_of(made))["status"]["phase"] == "Healed", "it is healed", 60)
    assert nothing_is_left(lab, "minion-1")
    wait(lambda: condition(lab.get("node", "minion-1"), "Ready") == "True", "it is Ready", 60)
