"""The engine on disk: SQLite in WAL mode, synchronous=FULL, one writer thread, one transaction per group (sqlite.org/wal.html).

A row of `log` is one key's change in one revision. Rows at or below the compacted revision are live keys only.
One process at a time: the lock is held on a file beside the database and goes with the process, however it ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from labctl.errors import StoreError, Unavailable
from labctl.store.file import COMPACT, SCHEMA, copy, loaded, private
from labctl.store.interface import Batch
from labctl.store.log import Loaded, LogStore
from labctl.store.settings import StoreSettings


class SqliteEngine:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = _lock(path)
        try:
            self._db = self._open()
        except sqlite3.Error as error:
            os.close(self._lock)
            raise StoreError(f"can't open the store {path}: {error}", mend="move the file away to begin anew, or free the disk") from error
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")

    def _open(self) -> sqlite3.Connection:
        private(self._path)
        db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise sqlite3.OperationalError(f"this file system has no locks for SQLite's WAL (journal mode is {mode})")
        db.execute("PRAGMA synchronous=FULL")
        db.executescript(SCHEMA)
        return db

    def load(self) -> Loaded:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            return loaded(self._db)
        except sqlite3.Error as error:
            raise Unavailable(f"the store {self._path} can't be read: {error}") from error

    async def append(self, group: Sequence[Batch]) -> None:
        rows = [
            (batch.revision, seq, change.entry.key, change.entry.value, change.entry.created, change.deleted)
            for batch in group
            for seq, change in enumerate(batch.changes)
        ]
        await self._run(self._append, rows)

    def _append(self, rows: list[tuple[int, int, str, bytes, int, bool]]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO log VALUES (?,?,?,?,?,?)", rows)
        self._db.execute("COMMIT")

    async def compact(self, revision: int) -> None:
        await self._run(self._compact, revision)

    def _compact(self, revision: int) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            newest = self._db.execute("SELECT max(revision) FROM log").fetchone()[0] or 0
            self._db.execute(COMPACT, {"at": revision})
            self._db.executemany("REPLACE INTO meta VALUES (?,?)", [("compacted", revision), ("revision", newest)])
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:  # it was refused: the next commit is not to find itself inside it
                self._db.execute("ROLLBACK")

    async def snapshot(self, path: Path) -> int:
        return await self._run(self._snapshot, path)

    def _snapshot(self, path: Path) -> int:
        """On the writer's thread: between two groups, so what is in the file is what is durable."""
        return copy(self._db, path)

    async def _run(self, work: Callable[[Any], Any], argument: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writer, work, argument)
        except sqlite3.Error as error:
            raise Unavailable(f"the store {self._path} refused a write: {error}", mend="free space on that disk") from error

    def close(self) -> None:
        self._writer.shutdown(wait=True)
        self._db.close()
        os.close(self._lock)


def _lock(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if isinstance(error, BlockingIOError):
            raise StoreError(f"another process has the store {path} open", mend="`labctl status` shows the lab's master") from error
        raise StoreError(
            f"this file system can't lock {path}: {error}", mend="keep the lab's state on a local disk (LABCTL_STATE_HOME)"
        ) from error
    return fd


def sqlite_store(path: Path, settings: StoreSettings = StoreSettings()) -> LogStore:  # noqa: B008 - frozen
    """A Store that survives its process. Raises StoreError if the file can't be opened or another process has it."""
    engine = SqliteEngine(path)
    try:
        return LogStore(engine, settings)
    except BaseException:
        engine.close()
        raise
