"""Boxes and the snapshots that build on them: none is removed under one without a word. With libvirt and Vagrant: `make test-vm`."""

import importlib.util
import json

import msgspec
import pytest
from click.testing import CliRunner

from labctl.cli.main import labctl
from labctl.errors import LabctlError
from labctl.lab import Lab, boxes
from labctl.providers.vagrant.snapshots import SavedLab

OLD = "labctl/minion-amd64-000000000000"


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """No lab yet; one box that lies in its cache, on a host without libvirt."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setenv("LABCTL_CACHE_HOME", str(tmp_path / "c"))
    monkeypatch.chdir(tmp_path)
    box = tmp_path / "c" / "boxes" / "minion-amd64-000000000000.box"
    box.parent.mkdir(parents=True)
    box.write_bytes(b"1234")
    return Lab(tmp_path, environment={"HOME": str(tmp_path), "LABCTL_CACHE_HOME": str(tmp_path / "c")})


def keep(lab, name, content):
    machines = lab.paths.snapshots / name / "machines"
    machines.mkdir(parents=True)
    (machines / "lab.json").write_bytes(content)


def made_of(box):
    return msgspec.json.encode(SavedLab("lab-1", {"box": box}, []))


def test_a_box_that_snapshots_build_on_stays_until_they_are_gone_or_it_is_forced(lab):
    keep(lab, "ready", made_of(OLD))
    keep(lab, "chapter-5", made_of(OLD))
    with pytest.raises(LabctlError) as error:
        boxes.remove(lab, "minion-amd64-000000000000")
    assert str(error.value) == (
        f"{OLD} was kept, because snapshots build on it (chapter-5, ready): "
        "labctl snapshot delete chapter-5, and so on; or use --force, and no lab can start from them any more"
    )
    assert [built.name for built in boxes.boxes(lab)] == [OLD]
    assert boxes.remove(lab, OLD, force=True).name == OLD
    assert boxes.boxes(lab) == []


def test_snapshots_of_other_boxes_or_of_no_virtual_machines_keep_nobody(lab):
    keep(lab, "other", made_of("labctl/minion-amd64-111111111111"))
    keep(lab, "namespaces", b'[{"spec": {"name": "minion-1"}}]')
    keep(lab, ".new-half", made_of(OLD))
    (lab.paths.snapshots / "none").mkdir()
    boxes.remove(lab, OLD)
    assert boxes.boxes(lab) == []


def test_a_box_that_is_not_there_is_named_with_those_that_are(lab):
    with pytest.raises(LabctlError, match=f"there is no box minion: there are {OLD}"):
        boxes.remove(lab, "minion", force=True)


def test_the_list_says_which_snapshots_need_a_box(lab):
    keep(lab, "ready", made_of(OLD))
    [listed] = json.loads(CliRunner().invoke(labctl, ["box", "list", "-o", "json"], catch_exceptions=False).stdout)
    assert (listed["name"], listed["size"], listed["current"], listed["snapshots"]) == (OLD, 4, False, ["ready"])
    table = CliRunner().invoke(labctl, ["box", "list"], catch_exceptions=False).stdout.splitlines()
    assert table[0].split() == ["NAME", "SIZE", "CURRENT", "SNAPSHOTS", "PATH"] and "ready" in table[1].split()
