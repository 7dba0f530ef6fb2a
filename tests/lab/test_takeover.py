"""A running master starts over in its own process. The processes are real; no machines."""

import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from labctl.lab import process, takeover, up
from labctl.lab.folder import LabFolder


@pytest.fixture
def lab(tmp_path):
    environment = {"HOME": str(tmp_path), "LABCTL_STATE_HOME": str(tmp_path / "state"), "LABCTL_CACHE_HOME": str(tmp_path / "cache")}
    folder = LabFolder(tmp_path, environment=environment, minions=0)
    folder.save(minions=0, provider="")
    process.ensure_master(folder.paths)
    yield folder
    process.stop_master(folder.paths)


def again(lab):
    with takeover.prepare_master(lab.paths) as prepared:
        prepared.replace_running()
        assert not process.master_pid(lab.paths), "it has let go of its lock"
        process.ensure_master(lab.paths, prepared=prepared)
    lab.__dict__.pop("api", None)


def descriptors(pid):
    """What its descriptors lead to, without the numbers of sockets and pipes."""
    there = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            there.append(os.readlink(path).partition(":")[0])
    return sorted(there)


def test_the_same_process_is_the_master_again_with_what_lies_there_now(lab):
    pid = process.master_pid(lab.paths)
    lab.api.post("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "before"}})
    lab.save(evict=7)
    again(lab)
    assert process.master_run(lab.paths)["pid"] == process.master_pid(lab.paths) == pid
    assert lab.api.find("/api/v1/namespaces/default/configmaps/before")
    assert not lab.paths.takeover_go.exists() and not lab.paths.takeover_ready.exists()


def test_settings_that_need_a_new_start_need_no_new_process(lab):
    pid = process.master_pid(lab.paths)
    asked = LabFolder(lab.folder, environment=lab.environment, minions=0, audit=True)
    asked.save(minions=0, provider="")
    up._master(asked, None)
    assert process.master_pid(lab.paths) == pid and process.master_run(lab.paths)["settings"]["audit"] is True
    assert asked.api.get("/version")


def test_nothing_of_one_life_is_left_in_the_next(lab):
    pid = process.master_pid(lab.paths)
    again(lab)
    before = descriptors(pid)
    again(lab)
    again(lab)
    assert len(descriptors(pid)) <= len(before) + 1, "an HTTP connection may be ending"  # one leak a life would be two
    assert process.master_pid(lab.paths) == pid


def test_until_it_is_replaced_it_goes_on(lab):
    """What is wrong with a snapshot is found before the lab's master is touched."""
    with takeover.prepare_master(lab.paths) as prepared:
        assert isinstance(prepared, takeover.TakenOver)
    assert process.master_run(lab.paths) and lab.api.get("/version")


def test_it_ends_when_its_starter_does(lab):
    with takeover.prepare_master(lab.paths) as prepared:
        pid = process.master_pid(lab.paths)
        prepared.replace_running()
        descriptor = os.pidfd_open(pid)
        prepared._close()  # as a killed restore would
        assert process.select.select([descriptor], [], [], 20)[0]
        os.close(descriptor)
    assert not process.master_pid(lab.paths)


def test_one_that_can_not_stop_in_time_is_ended_and_another_begun(lab, monkeypatch):
    monkeypatch.setattr(takeover, "STOP_DEADLINE_S", 0.0)
    pid = process.master_pid(lab.paths)
    again(lab)
    assert process.master_pid(lab.paths) not in (0, pid)
    assert lab.api.get("/version")


def test_a_new_process_is_begun_where_none_runs(lab):
    process.stop_master(lab.paths)
    with takeover.prepare_master(lab.paths) as prepared:
        assert not isinstance(prepared, takeover.TakenOver)


def test_a_process_with_other_code_is_not_taken_over(tmp_path):
    code, libraries = tmp_path / "code", tmp_path / "libraries"
    (code / "sub").mkdir(parents=True)
    libraries.mkdir()
    (code / "sub" / "module.py").write_text("")
    later = time.time() + 60
    assert not takeover.changed_since(later, [code], libraries)
    assert takeover.changed_since(0.0, [code], libraries)
    began = time.time()
    os.utime(libraries, (0, 0))
    time.sleep(0.02)  # the kernel stamps files by its tick
    (code / "sub" / "module.pyc").write_text("")
    older = os.stat(code / "sub" / "module.py").st_ctime < began
    assert takeover.changed_since(began, [code], libraries) is not older, "what Python compiles is no change"
    (code / "sub" / "module.py").write_text("x = 1")
    os.utime(code / "sub" / "module.py", (0, 0))  # as an installer that keeps times
    assert takeover.changed_since(began, [code], libraries)
