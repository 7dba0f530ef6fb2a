"""A store's file with flipped bytes: it is refused by name of file and row, what is whole can be kept, and old files still open."""

import os
import random
import sqlite3
from contextlib import closing

import pytest

from labctl.errors import Compacted, Damaged, StoreError
from labctl.store.file import rewind
from labctl.store.interface import Delete, Put
from labctl.store.repair import damages, examine, keep_whole_rows
from labctl.store.sqlite import sqlite_store

OLD_SCHEMA = """
CREATE TABLE log (
  revision INTEGER NOT NULL, seq INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, created INTEGER NOT NULL, deleted INTEGER NOT NULL,
  PRIMARY KEY (revision, seq)) WITHOUT ROWID;
CREATE INDEX log_key ON log (key, revision);
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


@pytest.fixture
async def path(tmp_path):
    """A closed store with 40 objects; the newest write of k07 is the last but one."""
    store = sqlite_store(tmp_path / "store.db")
    for i in range(40):
        await store.commit([Put(f"pods/default/k{i:02}", b'{"first":%d,"text":"%b"}' % (i, b"abc" * 40))])
    await store.commit([Delete("pods/default/k39")])
    await store.commit([Put("pods/default/k07", b'{"second":"write"}')])
    await store.commit([Put("pods/default/k08", b'{"second":"write"}')])
    await store.close()
    return tmp_path / "store.db"


def flip(path, found, instead):
    data = path.read_bytes()
    assert data.count(found) == 1
    path.write_bytes(data.replace(found, instead))


async def test_a_row_with_flipped_bytes_is_named_and_how_to_go_on(path):
    flip(path, b'{"first":5,', b'{"first":7,')  # still JSON, still text: only the checksum can tell
    with pytest.raises(Damaged, match=r"store\.db is damaged: row 6 \(revision 6, pods/default/k05\)") as told:
        sqlite_store(path)
    assert "labctl doctor --store" in told.value.mend
    with pytest.raises(Damaged):
        rewind(path, path.parent / "other" / "store.db", 0)
    assert damages(path) == [told.value.message]


async def test_what_is_no_text_any_more_is_damage_and_no_traceback(path):
    flip(path, b"pods/default/k05", b"pods/default/\xff05")
    with pytest.raises(Damaged, match="row 6"):
        sqlite_store(path)


async def test_the_rows_that_are_whole_can_be_kept(path):
    data = path.read_bytes()
    at = data.index(b'{"second":"write"}')  # k08's, the newest row lies first in its page
    path.write_bytes(data[:at] + b'{"second":"wrong"}' + data[at + 18 :])
    flip(path, b'{"first":5,', b'{"first":7,')
    examined = examine(path)
    assert len(examined.damages) == 2 and len(examined.whole) == 41
    aside = keep_whole_rows(path, examined)
    assert aside.name == "store.damaged" and oct(aside.stat().st_mode & 0o777) == "0o600"
    store = sqlite_store(path)
    assert store.revision > 43, "above every revision that was ever given"
    assert store.get("pods/default/k05") is None and store.get("pods/default/k39") is None
    assert store.get("pods/default/k07").value == b'{"second":"write"}'
    assert store.get("pods/default/k08").value.startswith(b'{"first":8,'), "as it was before"
    with pytest.raises(Compacted):
        store.watch("", 43)
    assert await store.commit([Put("new", b"")]) == store.revision
    await store.close()
    assert not examine(path).damages


async def test_a_page_that_cannot_be_read_costs_the_rows_in_it(path):
    store = sqlite_store(path)
    await store.commit([Put(f"pods/other/{i:03}", b"x" * 200) for i in range(100)])
    await store.close()
    data = bytearray(path.read_bytes())
    at = data.index(b"pods/other/050") // 4096 * 4096
    data[at : at + 4096] = bytes(4096)
    path.write_bytes(data)
    with pytest.raises(StoreError, match="labctl doctor --store"):
        sqlite_store(path)
    examined = examine(path)
    assert examined.damages and 100 < examined.objects < 139
    keep_whole_rows(path, examined)
    store = sqlite_store(path)
    assert store.get("pods/other/000") and store.get("pods/other/099") and not store.get("pods/other/050"), "before the page and behind it"
    await store.close()


async def test_no_flipped_byte_is_a_traceback_or_another_value(path):
    """Each byte of the file, by chance: the store opens with what was written, or says that it is damaged."""
    data, rng = path.read_bytes(), random.Random(11)
    store = sqlite_store(path)
    wanted = {entry.key: entry.value for entry in store.range("pods/").entries}
    await store.close()
    for _ in range(300):
        at = rng.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :])
        for end in ("-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        try:
            store = sqlite_store(path)
        except StoreError:
            examine(path)
            continue
        found = {entry.key: entry.value for entry in store.range("pods/").entries}
        await store.close()
        assert all(wanted.get(key) == value for key, value in found.items()), f"byte {at}"


def old_file(path, rows):
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(OLD_SCHEMA)
        db.executemany("INSERT INTO log VALUES (?,?,?,?,?,?)", rows)
        db.execute("INSERT INTO meta VALUES ('compacted', 3)")


OLD_ROWS = [
    (4, 0, "pods/default/a", b'{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","uid":"u","resourceVersion":"4","labels":{}}}', 2, 0),
    (4, 1, "claims/vip/10.247.0.9", b"services/default/web", 4, 0),
    (5, 0, "pods/default/b", b'{"kind":"Pod","apiVersion":"v1","metadata":{"name":"b","uid":"u","resourceVersion":"5"}}', 5, 0),
    (6, 0, "pods/default/b", b'{"kind":"Pod","apiVersion":"v1","metadata":{"name":"b","uid":"u","resourceVersion":"6","labels":{}}}', 5, 1),
    (7, 0, "claims/vip/10.247.0.9", b"", 4, 1),
]


async def test_a_file_of_an_older_labctl_opens_and_its_revisions_lie_beside_its_values(tmp_path):
    path = tmp_path / "store.db"
    old_file(path, OLD_ROWS)
    for _ in range(2):
        store = sqlite_store(path)
        entry = store.get("pods/default/a")
        assert (entry.revision, entry.created) == (4, 2)
        assert entry.value == b'{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","uid":"u","labels":{}}}'
        assert (store.revision, store.compacted) == (7, 3) and store.get("pods/default/b") is None
        assert [batch.revision for batch in store.watch("", 3).take()] == [4, 5, 6, 7]
        await store.close()
    store = sqlite_store(path)
    assert await store.commit([Put("pods/default/c", b"{}")]) == 8
    await store.close()
    assert not examine(path).damages


def test_a_damaged_file_of_an_older_labctl_is_named_too(tmp_path):
    path = tmp_path / "store.db"
    old_file(path, OLD_ROWS)
    flip(path, b'"name":"b","uid":"u","resourceVersion":"5"}', b'"name":"b","uid":"\xff","resourceVersion":"5"}')
    with pytest.raises(Damaged, match="row 3"):
        sqlite_store(path)
    assert len(examine(path).damages) == 1


async def test_a_restore_can_begin_from_a_snapshot_of_an_older_labctl(tmp_path):
    old_file(tmp_path / "kept", OLD_ROWS)
    begin = rewind(tmp_path / "kept", tmp_path / "store.db", 100)
    store = sqlite_store(tmp_path / "store.db")
    assert begin == store.revision == 101 and [e.key for e in store.range("").entries] == ["pods/default/a"]
    await store.close()


async def test_a_store_in_use_is_not_examined(path):
    store = sqlite_store(path)
    with pytest.raises(StoreError, match="another process"):
        examine(path)
    await store.close()
    assert not any(name.startswith("tmp") for name in os.listdir(path.parent))
