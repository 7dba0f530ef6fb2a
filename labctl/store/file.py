"""This module knows the store's SQLite file: its tables, its checksums, snapshots of it, and how a snapshot becomes a store again.

    load     reads everything that is kept, and compares each row with its checksum
    copy     writes what is durable now into a new file (VACUUM INTO: sqlite.org/lang_vacuum.html)
    rewind   makes a store of such a copy. Its revisions go on above every one that was ever given: a client that watches
             from an older revision gets 410 and lists again, so no client sees time go back

The third is what etcd calls restore with --bump-revision --mark-compacted (etcd.io/docs/v3.5/op-guide/recovery).

A row of `changes` is one key's change in one revision; `id` is their order; `checksum` is the CRC-32 of the row's other columns. `meta` holds the
numbers `revision` and `compacted`, and their own checksum. Files that an older labctl wrote have other tables; `prepare` moves their rows (migrate.py).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from zlib import crc32

from labctl.errors import Damaged, StoreError
from labctl.store.engine import Loaded
from labctl.store.migrate import migrate

SCHEMA = """
CREATE TABLE IF NOT EXISTS changes (
  id INTEGER PRIMARY KEY, revision INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, created INTEGER NOT NULL, deleted INTEGER NOT NULL,
  checksum INTEGER);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""

COMPACT = """
DELETE FROM changes WHERE revision <= :at AND (deleted OR id NOT IN (SELECT max(id) FROM changes WHERE revision <= :at GROUP BY key))
"""

SELECT = "SELECT id, revision, CAST(key AS BLOB), CAST(value AS BLOB), created, deleted, checksum FROM changes"

_TABLES = ("changes", "meta", "log")  # the last is an older labctl's

MEND = "labctl doctor --store says what is damaged and what can be kept"

ChangeRow = tuple[int, str, bytes, int, bool]
"""Revision, key, value, the revision that created the key, and whether this change deleted it."""


def insert(rows: int) -> str:
    """Returns the statement that appends so many rows at once."""
    return "INSERT INTO changes (revision, key, value, created, deleted, checksum) VALUES " + ",".join(["(?,?,?,?,?,?)"] * rows)


def checksum(revision: int, key: bytes, value: bytes, created: int, deleted: bool) -> int:
    """Computes the CRC-32 of a row: of its numbers, its key and its value."""
    return crc32(value, crc32(b"%d %d %d %d %b" % (revision, created, deleted, len(key), key)))


def parameters(changes: Iterable[ChangeRow]) -> list[object]:
    """Returns the parameters for `insert`: the columns of all rows, one after another."""
    flat: list[object] = []
    for revision, key, value, created, deleted in changes:
        flat += (revision, key, value, created, deleted, checksum(revision, key.encode(), value, created, deleted))
    return flat


def prepare(db: sqlite3.Connection) -> None:
    """Creates the tables that do not exist yet, and migrates the rows of a file that an older labctl wrote."""
    db.executescript(SCHEMA)
    migrate(db, _checksum_if_text, write_meta)


def load(db: sqlite3.Connection, path: Path) -> Loaded:
    """Reads everything that is kept. Raises Damaged if a row is not what was written."""
    changes = [checked(path, *row) for row in db.execute(f"{SELECT} ORDER BY id")]
    meta = checked_meta(path, db)
    return Loaded(_revision(db), meta.get("compacted", 0), changes)


def checked_meta(path: Path, db: sqlite3.Connection) -> dict[str, int]:
    """Reads the numbers of the table meta. Raises Damaged if they differ from their checksum."""
    meta = dict(db.execute("SELECT CAST(name AS BLOB), value FROM meta"))
    if meta and (meta.pop(b"checksum", None) != _meta_checksum(meta) or not all(type(value) is int for value in meta.values())):
        raise Damaged(f"the store {path} is damaged: its table meta is not what was written", mend=MEND)
    return {name.decode(): value for name, value in meta.items()}


def checked(path: Path, id_: int, revision: int, key: bytes, value: bytes, created: int, deleted: int, sum_: int | None) -> ChangeRow:
    """Returns the row. Raises Damaged if it differs from its checksum."""
    try:
        if sum_ == checksum(revision, key, value, created, bool(deleted)):
            return revision, key.decode(), value, created, bool(deleted)
    except (TypeError, UnicodeDecodeError):
        pass
    shown = key.decode(errors="replace") if isinstance(key, bytes) else "?"
    raise Damaged(f"the store {path} is damaged: row {id_} (revision {revision}, {shown}) is not what was written", mend=MEND)


def make_private(path: Path) -> None:
    """Makes sure that the file exists and that only its owner can read it: Secrets are in it. SQLite gives its other files the same mode."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise sqlite3.OperationalError(f"{path}: {error.strerror}") from error


def copy(db: sqlite3.Connection, path: Path) -> int:
    """Writes the content of `db` into a new file and returns its revision. The caller who renames the file also makes it durable."""
    path.unlink(missing_ok=True)
    make_private(path)
    db.execute("VACUUM INTO ?", (str(path),))
    return _revision(db)


def write(path: Path, content: Loaded) -> None:
    """Writes a new file with this content: for engines that have no file, and for a store of which only a part could be kept."""
    path.unlink(missing_ok=True)
    make_private(path)
    with closing(sqlite3.connect(path)) as db, db:
        prepare(db)
        db.executemany(insert(1), [parameters([change]) for change in content.changes])
        write_meta(db, revision=content.revision, compacted=content.compacted)


def highest_revision(store: Path) -> int:
    """Returns the highest revision that the store in this file ever gave; 0 if there is no file. Raises StoreError if the file can't be read."""
    if not store.exists():
        return 0
    try:
        with closing(sqlite3.connect(store)) as db:  # not read-only: what a killed writer left in the write-ahead log counts
            prepare(db)
            return _revision(db)
    except (sqlite3.Error, TypeError) as error:  # a revision that is no number
        raise StoreError(f"the store {store} can't be read: {error}", mend=MEND) from error


def rewind(snapshot: Path, store: Path, above: int) -> int:
    """Replaces `store`, which no process may have open, by a snapshot. Returns its new revision, which is above the snapshot's own and above `above`.

    A process that is killed in the middle leaves the old store, none, or the new one: never half of one, and never one with another's write-ahead log.
    """
    store.parent.mkdir(parents=True, exist_ok=True)
    new = store.with_suffix(".new")
    try:
        shutil.copyfile(snapshot, new)
        with closing(sqlite3.connect(new)) as db, db:
            _check_tables(db, snapshot)
            prepare(db)
            load(db, snapshot)
            begin = max(_revision(db), above) + 1
            db.execute(COMPACT, {"at": begin})
            write_meta(db, revision=begin, compacted=begin)
        put_in_place(new, store)
    except Damaged:
        new.unlink(missing_ok=True)
        raise
    except (OSError, sqlite3.Error) as error:
        new.unlink(missing_ok=True)
        raise StoreError(f"the snapshot {snapshot} can't be restored: {error}", mend="free space on that disk") from error
    return begin


def _check_tables(db: sqlite3.Connection, path: Path) -> None:
    """Raise Damaged for a file with anything but our tables: a view can be rows without end, and a trigger runs when we write."""
    db.execute("PRAGMA trusted_schema = OFF")
    for type_, name, table in db.execute("SELECT type, name, tbl_name FROM sqlite_schema"):
        ours = (type_ == "table" and name in _TABLES) or (
            type_ == "index" and (table == "log" or str(name).startswith("sqlite_autoindex_"))
        )
        if not ours:
            raise Damaged(f"the store {path} has a {str(type_)[:20]} {str(name)[:100]!r}, which no store has", mend="use another snapshot")


def put_in_place(new: Path, store: Path) -> None:
    """Makes `new` durable, then renames it to `store`. The old write-ahead log is removed first, because it does not belong to the new file."""
    sync(new)
    for old in (store, store.with_name(store.name + "-wal"), store.with_name(store.name + "-shm")):
        old.unlink(missing_ok=True)
    os.replace(new, store)
    sync(store.parent)


def write_meta(db: sqlite3.Connection, **values: int) -> None:
    """Writes numbers by name into the table meta, with a new checksum of all its numbers."""
    db.executemany("REPLACE INTO meta VALUES (?,?)", list(values.items()))
    meta = dict(db.execute("SELECT CAST(name AS BLOB), value FROM meta WHERE name != 'checksum'"))
    db.execute("REPLACE INTO meta VALUES ('checksum', ?)", (_meta_checksum(meta),))


def _meta_checksum(meta: dict[bytes, int]) -> int:
    return crc32(repr(sorted(meta.items())).encode())


def _checksum_if_text(revision: int, key: bytes, value: bytes, created: int, deleted: int) -> int | None:
    """Returns the checksum for a row that has none yet, or None if the row is visibly damaged (its key or value is not text)."""
    try:
        bytes(key).decode(), bytes(value).decode()
    except UnicodeDecodeError:
        return None
    return checksum(revision, key, value, created, bool(deleted))


def _revision(db: sqlite3.Connection) -> int:
    newest = db.execute("SELECT revision FROM changes ORDER BY id DESC LIMIT 1").fetchone()
    kept = db.execute("SELECT max(value) FROM meta WHERE name IN ('revision', 'compacted')").fetchone()[0] or 0
    return max(newest[0] if newest else 0, kept)


def sync(path: Path) -> None:
    """Waits until the file or folder is on the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
