"""The SQLite file: its tables, a copy of it at one revision, and a store made of such a copy.

    copy     what is durable now, into a new file (VACUUM INTO: sqlite.org/lang_vacuum.html)
    rewind   a copy becomes a store again, and its revisions go on above every one that was ever given:
             whoever watches from an older revision is told 410 and lists again, so nobody sees time go back

etcd's restore does the same under the name --bump-revision --mark-compacted (etcd.io/docs/v3.5/op-guide/recovery).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from labctl.errors import StoreError
from labctl.store.log import Loaded

SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
  revision INTEGER NOT NULL, seq INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, created INTEGER NOT NULL, deleted INTEGER NOT NULL,
  PRIMARY KEY (revision, seq)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS log_key ON log (key, revision);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""

COMPACT = """
DELETE FROM log WHERE revision <= :at AND (deleted OR EXISTS (
  SELECT 1 FROM log later WHERE later.key = log.key AND later.revision > log.revision AND later.revision <= :at))
"""


def loaded(db: sqlite3.Connection) -> Loaded:
    """Everything that is kept."""
    rows = db.execute("SELECT revision, key, value, created, deleted FROM log ORDER BY revision, seq").fetchall()
    changes = [(revision, key, bytes(value), created, bool(deleted)) for revision, key, value, created, deleted in rows]
    meta = dict(db.execute("SELECT name, value FROM meta"))
    return Loaded(_revision(db), meta.get("compacted", 0), changes)


def private(path: Path) -> None:
    """The file is there, for its owner alone: Secrets are in it. SQLite gives its other files the same mode."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise sqlite3.OperationalError(f"{path}: {error.strerror}") from error


def copy(db: sqlite3.Connection, path: Path) -> int:
    """A new file with what is in `db`; answers its revision. Whoever renames it makes it durable."""
    path.unlink(missing_ok=True)
    private(path)
    db.execute("VACUUM INTO ?", (str(path),))
    return _revision(db)


def write(path: Path, content: Loaded) -> None:
    """The file of an engine that has none."""
    path.unlink(missing_ok=True)
    private(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(SCHEMA)
        rows = [(revision, seq, *change) for seq, (revision, *change) in enumerate(content.changes)]
        db.executemany("INSERT INTO log VALUES (?,?,?,?,?,?)", rows)
        _note(db, revision=content.revision, compacted=content.compacted)


def highest(store: Path) -> int:
    """The highest revision that the store in this file ever gave; 0 if there is none. StoreError if it can't be read."""
    if not store.exists():
        return 0
    try:
        with closing(sqlite3.connect(store)) as db:  # not read-only: what a killed writer left in the WAL counts
            db.executescript(SCHEMA)
            return _revision(db)
    except sqlite3.Error as error:
        raise StoreError(f"the store {store} can't be read: {error}") from error


def rewind(snapshot: Path, store: Path, above: int) -> int:
    """Put a snapshot in the place of `store`, which nobody has open. Answers the revision it is at: later than its own and than `above`.

    Killed in the middle it leaves the old store, none, or the new one; never half of one, nor one with another's write-ahead log.
    """
    store.parent.mkdir(parents=True, exist_ok=True)
    new = store.with_suffix(".new")
    try:
        shutil.copyfile(snapshot, new)
        with closing(sqlite3.connect(new)) as db, db:
            begin = max(_revision(db), above) + 1
            db.execute(COMPACT, {"at": begin})
            _note(db, revision=begin, compacted=begin)
        _sync(new)
        for old in (store, store.with_name(store.name + "-wal"), store.with_name(store.name + "-shm")):
            old.unlink(missing_ok=True)
        os.replace(new, store)
        _sync(store.parent)
    except (OSError, sqlite3.Error) as error:
        new.unlink(missing_ok=True)
        raise StoreError(f"the snapshot {snapshot} can't be restored: {error}", mend="free space on that disk") from error
    return begin


def _revision(db: sqlite3.Connection) -> int:
    newest = db.execute("SELECT max(revision) FROM log").fetchone()[0] or 0
    kept = db.execute("SELECT max(value) FROM meta").fetchone()[0] or 0
    return max(newest, kept)


def _note(db: sqlite3.Connection, **values: int) -> None:
    db.executemany("REPLACE INTO meta VALUES (?,?)", list(values.items()))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
