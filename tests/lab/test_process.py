"""The master's process as `up` starts it: begun early, told to go, or given up. The processes are real."""

import os
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
    with process.beginning(lab.paths) as begun:
        assert begun is not None
        assert not process.master_pid(lab.paths)  # it takes no lock before
        lab.save(minions=0, provider="")  # settings may be found out meanwhile
        process.ensure_master(lab.paths, begun=begun)
    assert process.master_run(lab.paths)["pid"] == process.master_pid(lab.paths) == begun._process.pid
    assert lab.api.get("/version")["gitVersion"]


def test_what_nobody_needed_is_gone(lab):
    with process.beginning(lab.paths) as begun:
        pid = begun._process.pid
    assert ended(pid)
    assert not process.master_pid(lab.paths)


def test_it_ends_when_its_starter_does(lab):
    with process.beginning(lab.paths) as begun:
        begun._close()  # as a killed `labctl up` would
        deadline = time.monotonic() + 20
        while begun._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert begun._process.returncode == 0


def test_none_is_begun_where_one_runs(lab):
    lab.save(minions=0, provider="")
    process.ensure_master(lab.paths)
    with process.beginning(lab.paths) as begun:
        assert begun is None
        process.ensure_master(lab.paths, begun=begun)


def test_why_it_did_not_start_is_said(lab):
    lab.paths.lab.mkdir(parents=True)
    (lab.paths.lab / "lab.json").write_text("{")
    with process.beginning(lab.paths) as begun, pytest.raises(LabctlError, match="the master did not start: .*lab.json can't be read"):
        process.ensure_master(lab.paths, begun=begun)
    assert begun._process.returncode == 1
