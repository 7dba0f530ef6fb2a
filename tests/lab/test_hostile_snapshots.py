"""Snapshots that somebody damaged, or made to harm: each is one line before anything of the lab is touched."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing

import pytest

from labctl.errors import LabctlError, ProviderError
from labctl.lab import snapshots
from labctl.providers.namespace import snapshots as namespaced
from tests.lab.test_snapshots import make, names, saved

__all__ = ["make", "saved"]  # fixtures


def edited(lab, /, **fields):
    path = lab.paths.snapshots / "one" / "snapshot.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    "text",
    [b"[" * 100_000, b'{"kept":' * 100_000, b"\xff\xfe", b"null", b"{}", b"9" * 100_000, b'"' + b"x" * (8 << 20) + b'"'],
    ids=["deep", "deeper", "no text", "null", "empty", "number", "large"],
)
def test_what_is_no_snapshot_is_one_line(saved, text):
    (saved.paths.snapshots / "one" / "snapshot.json").write_bytes(text)
    with pytest.raises(LabctlError, match="can't be read: .*: labctl snapshot delete one") as raised:
        snapshots.find(saved, "one")
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    "fields",
    [
        {"kept": {"provider": ["x"]}},
        {"kept": {"minions": "many"}},
        {"kept": {"../x": 1}},
        {"settings": {"network": {"a": 1}}},
        {"revision": -1},
        {"revision": 1 << 62},
        {"revision": 10**30},
        {"port": -5},
        {"port": 10**9},
        {"machines": ["../../x"]},
        {"machines": ["a"] * 100_000},
        {"ready": ["x"] * 100_000},
        {"size": -1},
        {"paused_s": 1e308},
        {"saved": "\x1b[2J"},
        {"provider": "../x"},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_edited_fields_are_one_line_and_touch_nothing(saved, fields):
    before = saved.status()["master"]["pid"]
    edited(saved, **fields)
    try:
        snapshots.adopt_settings(saved, "one")
        saved.up("one")
    except LabctlError as error:
        assert len(str(error)) < 1000
        assert saved.status()["master"]["pid"] == before and "restoring" not in saved.record
    else:
        assert names(saved) == ["kept"]


@pytest.mark.parametrize(
    "fields", [{"port": -5}, {"port": 10**9}, {"kept": {"provider": ["x"]}}, {"provider": "../x"}, {"lab": "../x"}], ids=str
)
def test_a_new_lab_of_an_edited_snapshot_is_one_line_or_a_lab(saved, make, fields):
    edited(saved, **fields)
    saved.destroy()
    other = make("elsewhere")
    try:
        other.up("one")
    except LabctlError as error:
        assert len(str(error)) < 1000 and not (other.paths.lab / "lab.json").exists()
    else:
        assert names(other) == ["kept"]


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TRIGGER t AFTER INSERT ON meta BEGIN DELETE FROM changes; END",
        "ALTER TABLE changes RENAME TO c; CREATE VIEW changes AS WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM x)"
        " SELECT n AS id, n AS revision, 'k' AS key, 'v' AS value, n AS created, 0 AS deleted, 0 AS checksum FROM x",
        "CREATE TABLE log (x)",
        "DROP TABLE changes; CREATE TABLE changes (id INTEGER PRIMARY KEY)",
        "UPDATE changes SET value = x'ff'",
        "INSERT INTO meta VALUES ('revision', 'x')",
    ],
)
def test_an_edited_store_is_one_line_and_leaves_the_labs_own(saved, sql):
    with closing(sqlite3.connect(saved.paths.snapshots / "one" / "store.db")) as db:
        db.executescript(sql)
    with pytest.raises(LabctlError) as raised:
        saved.up("one")
    assert "store" in str(raised.value) or "snapshot" in str(raised.value)


def test_a_store_that_is_no_database_is_one_line(saved):
    (saved.paths.snapshots / "one" / "store.db").write_bytes(b"x" * 100_000)
    with pytest.raises(LabctlError, match="can't be restored|can't be read|damaged"):
        saved.up("one")


def test_a_pipe_in_the_place_of_a_snapshot_is_not_waited_for(saved):
    """`labctl snapshot list`, and each command that names a snapshot, waited for ever."""
    folder = saved.paths.snapshots / "two"
    folder.mkdir()
    os.mkfifo(folder / "snapshot.json")
    with pytest.raises(LabctlError, match="can't be read: .*this is no file"):
        snapshots.find(saved, "two")
    with pytest.raises(LabctlError, match="can't be read: .*labctl snapshot delete two"):
        snapshots.listed(saved)


@pytest.mark.parametrize("make_it", [os.mkfifo, lambda path: path.touch() or os.truncate(path, 1 << 40)], ids=["pipe", "endless"])
@pytest.mark.parametrize("part", ["pki/extra", "ssh/id"])
def test_what_is_no_key_is_one_line_and_touches_nothing(saved, part, make_it):
    before = saved.status()["master"]["pid"]
    path = saved.paths.snapshots / "one" / part
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    make_it(path)
    with pytest.raises(LabctlError, match="is no key: labctl snapshot delete one"):
        saved.up("one")
    assert saved.status()["master"]["pid"] == before and "restoring" not in saved.record


@pytest.mark.parametrize("part", ["pki/ca.key", "ssh/id", "store.db"])
def test_a_link_among_its_keys_brings_nothing_of_this_machine(saved, tmp_path, part):
    (tmp_path / "secret").write_text("of somebody else")
    path = saved.paths.snapshots / "one" / part
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(LabctlError, match="is a link"):
        saved.up("one")
    assert not [file for file in saved.paths.lab.rglob("*") if file.is_file() and "of somebody else" in file.read_text(errors="replace")]


@pytest.mark.parametrize(
    ("machines", "link", "why"),
    [
        ([{"name": "../../x", "was_on": True}], "", "can't be read"),
        ([{"name": "a", "was_on": True}, {"name": "a", "was_on": True}], "", "has a machine twice"),
        ("[" * 100_000, "", "can't be read"),
        ([{"name": "a", "was_on": True}], "a/upper", "is a link, which no snapshot has"),
        ([{"name": "a", "was_on": True}], "a/spec.json", "is a link, which no snapshot has"),
        ([{"name": "a", "was_on": True}], "a", "is a link, which no snapshot has"),
    ],
    ids=["path", "twice", "deep", "disk", "specification", "folder"],
)
def test_a_machines_disk_is_not_one_of_this_host(tmp_path, machines, link, why):
    """Its overlay would be mounted on the folder behind the link, which may be the host's root."""
    (tmp_path / "machines.json").write_text(machines if isinstance(machines, str) else json.dumps(machines))
    if link:
        (tmp_path / link).parent.mkdir(exist_ok=True)
        (tmp_path / link).symlink_to("/")
    with pytest.raises(ProviderError, match=why):
        namespaced.read(tmp_path)


@pytest.mark.parametrize("part", ["machines.json", "a/spec.json", "a/host_key", "a/host_key.pub", "a/upper", "a/storage"])
def test_a_pipe_among_a_machines_files_is_not_waited_for(tmp_path, part):
    (tmp_path / "a").mkdir()
    if part != "machines.json":
        (tmp_path / "machines.json").write_text(json.dumps([{"name": "a", "was_on": True}]))
    os.mkfifo(tmp_path / part)
    with pytest.raises(ProviderError, match="is not what a snapshot has there|this is no file"):
        namespaced.read(tmp_path)
