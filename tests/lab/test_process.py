"""The master's process as `up` starts it: prepared early, then told to go or ended. The processes are real."""

import os
import subprocess
import sys
import time

import pytest

from labctl.errors import LabctlError
from labctl.lab import process
from labctl.lab.folder import LabFolder


@pytest.fixture
def lab(tmp_path):
    environment = {"HOME": str(tmp_path), "LABCTL_STATE_HOME": str(tmp_path / "state"), "LABCTL_CACHE_HOME": str(tmp_path / "cache")}
    folder = LabFolder(tmp_path, environment=environment, minions=0)
    yield folder
    process.stop_master(folder.paths)


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_what_was_begun_is_the_master_once_it_is_told_to_go(lab):
    with process.prepare_master(lab.paths) as prepared:
        assert prepared is not None
        assert not process.master_pid(lab.paths)  # it takes no lock before
        lab.save(minions=0, provider="")  # settings may be found out meanwhile
        process.ensure_master(lab.paths, prepared=prepared)
    assert process.master_run(lab.paths)["pid"] == process.master_pid(lab.paths) == prepared._process.pid
    assert lab.api.get("/version")["gitVersion"]


def test_a_master_whose_starter_was_killed_goes_on_for_the_next(lab):
    """It was told to go, and takes the lock after the next command has looked for a master and before that one's own has."""
    lab.save(minions=0, provider="")
    first, second = process.PreparedMaster(lab.paths), process.PreparedMaster(lab.paths)
    go = second.go

    def go_later(**options):
        first.go()
        go(**options)

    second.go = go_later
    process.ensure_master(lab.paths, prepared=second)
    assert process.master_run(lab.paths)["pid"] == process.master_pid(lab.paths) == first._process.pid
    assert second._process.returncode == 1


def test_what_nobody_needed_is_gone(lab):
    with process.prepare_master(lab.paths) as prepared:
        pid = prepared._process.pid
    assert ended(pid)
    assert not process.master_pid(lab.paths)


def test_it_ends_when_its_starter_does(lab):
    with process.prepare_master(lab.paths) as prepared:
        prepared._close()  # as a killed `labctl up` would
        deadline = time.monotonic() + 20
        while prepared._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert prepared._process.returncode == 0


def test_none_is_begun_where_one_runs(lab):
    lab.save(minions=0, provider="")
    process.ensure_master(lab.paths)
    with process.prepare_master(lab.paths) as prepared:
        assert prepared is None
        process.ensure_master(lab.paths, prepared=prepared)


def test_why_it_did_not_start_is_said(lab):
    lab.paths.lab.mkdir(parents=True)
    (lab.paths.lab / "lab.json").write_text("{")
    with (
        process.prepare_master(lab.paths) as prepared,
        pytest.raises(LabctlError, match="the master did not start: .*lab.json can't be read"),
    ):
        process.ensure_master(lab.paths, prepared=prepared)
    assert prepared._process.returncode == 1


HOLDER = """
import fcntl, os, pathlib, sys, time
state, works_s = pathlib.Path(sys.argv[1]), float(sys.argv[2])
state.mkdir(parents=True, exist_ok=True)
file = open(state / "master.lock", "a+")
fcntl.flock(file, fcntl.LOCK_EX)
file.truncate(0)
file.write(str(os.getpid()))
file.flush()
print("held", flush=True)
until = time.monotonic() + works_s
while time.monotonic() < until:
    pass
if not works_s:
    time.sleep(60)
"""


@pytest.fixture
def holder(lab):
    """A function that starts a process which holds the master's lock and answers nobody: busy for so long, or idle if that is 0."""
    started = []

    def start(works_s: float) -> subprocess.Popen:
        process_ = subprocess.Popen([sys.executable, "-c", HOLDER, str(lab.paths.state), str(works_s)], stdout=subprocess.PIPE)
        started.append(process_)
        assert process_.stdout.readline() == b"held\n"
        return process_

    yield start
    for each in started:
        each.kill()
        each.wait()


def test_a_master_that_works_is_waited_for_and_one_that_stands_still_is_not(lab, holder, monkeypatch):
    """Each on real processes; how long either is waited for is the next test's, where no host can be too busy."""
    lab.save(minions=0, provider="")
    holder(2.5)
    notes = []
    process.ensure_master(lab.paths, note=notes.append)
    assert process.master_run(lab.paths)
    assert notes and all("1 s" in note or "2 s" in note for note in notes[:1])
    process.stop_master(lab.paths)
    monkeypatch.setattr(process, "IDLE_S", 0.8)
    holder(0)
    with pytest.raises(LabctlError, match="has started but does not answer"):
        process.ensure_master(lab.paths)


def test_a_start_is_waited_for_as_long_as_it_works(lab):
    """A large store takes longer to read than anybody waits for a process that does nothing."""
    now_s = used_s = 0.0
    deadline = process._StartDeadline(os.getpid(), lab.paths, lambda _note: None, clock=lambda: now_s, used=lambda _pid: used_s)
    for _ in range(10):
        now_s += process.IDLE_S - 1
        used_s += 0.1
        assert not deadline.over()
    now_s += process.IDLE_S + 1
    assert deadline.over()
    now_s, used_s = process.LOADING_MAX_S + 1, used_s + 100
    assert deadline.over(), "working for ever is no start"


def test_a_master_that_was_killed_and_still_holds_its_lock_counts_as_ending(lab):
    """A big process takes seconds to give its memory back; until then it has its lock, its sockets and its number, and answers nobody."""
    lab.save(minions=0, provider="")
    process.ensure_master(lab.paths)
    assert not process.is_ending(process.master_pid(lab.paths))
    with subprocess.Popen(["sleep", "60"]) as killed:
        killed.kill()
        os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
        assert process.is_ending(killed.pid)
    assert not process.is_ending(killed.pid), "it is gone"


def test_a_master_that_is_held_answers_and_ends_with_its_starter(lab):
    lab.save(minions=0, provider="")
    with process.prepare_master(lab.paths) as prepared:
        prepared.go(hold=True)
        assert prepared.held and process.master_run(lab.paths)["pid"] == prepared._process.pid
        prepared._close()  # as a restore that is killed would
        assert prepared._process.wait(20) == 0
    assert not process.master_pid(lab.paths)


def test_a_master_that_was_held_is_the_master_when_it_is_released(lab):
    lab.save(minions=0, provider="")
    with process.prepare_master(lab.paths) as prepared:
        prepared.go(hold=True)
        prepared.release()
    assert process.master_pid(lab.paths) == prepared._process.pid
    assert lab.api.get("/version")["gitVersion"]
