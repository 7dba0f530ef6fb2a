"""The SQLite engine writes each group in one transaction, in WAL mode with synchronous=FULL (sqlite.org/wal.html).

A group is written by the writer's thread, while the loop prepares the next one. Where there is nothing to prepare, that is a loss: one client that waits for each
of its writes waited for two wakes of a thread as well, which take as long as a quick disk. So a commit that comes alone, after another that came alone, is
written on the loop, if the disk was quick a hundred times in a row. A slow write is one at most: it sends the next hundred to the thread.

A group is one INSERT statement with a row for each change wherever that is possible. The sqlite3 module lets go of the interpreter in each
step of a statement and must wait for it again: ten INSERTs for a group of ten make a write take a third longer.
There is no index but the order of the rows, because each index makes every commit write one page more; only compaction looks for keys.
Only one process at a time may use the file: it holds a lock on a file beside the database, which the kernel releases when the process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labctl.errors import StoreError, Unavailable
from labctl.store.engine import Loaded
from labctl.store.file import COMPACT, MEND, ChangeRow, copy, insert, load, make_private, parameters, prepare, write_meta
from labctl.store.interface import Batch
from labctl.store.log import LogStore
from labctl.store.settings import StoreSettings
from labctl.store.writer import WriterThread

QUICK_S = 0.001  # a write that takes no longer may hold the loop up
_QUICK_IN_A_ROW = 100
_CHECKPOINT_BYTES = 4 << 20  # moves the write-ahead log into the database after about so many bytes of it
_PAGE_BYTES = 4096
_ROWS = 64  # the most rows of one statement; its text is made once for each number of rows
_INSERT = tuple(insert(rows) if rows else "" for rows in range(_ROWS + 1))


class SqliteEngine:
    def __init__(self, path: Path, quick_s: float = QUICK_S, quick_in_a_row: int = _QUICK_IN_A_ROW) -> None:
        self._path = path
        self._quick_s = quick_s
        self._quick_in_a_row = quick_in_a_row
        self._quick = 0  # how many writes in a row were quick
        self._alone = False  # whether the last group was a single commit
        self._logged_bytes = _size(path.with_name(path.name + "-wal"))  # about what is in the write-ahead log and not in the database
        self._lock = lock(path)
        try:
            self._db = self._open()
        except sqlite3.Error as error:
            os.close(self._lock)
            raise StoreError(f"can't open the store {path}: {error}", mend=f"free the disk if it is full; {MEND}") from error
        self._writer = WriterThread("store-writer")

    def _open(self) -> sqlite3.Connection:
        make_private(self._path)
        db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, cached_statements=_ROWS * 2)
        mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise sqlite3.OperationalError(f"this file system has no locks for SQLite's WAL (journal mode is {mode})")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA wal_autocheckpoint=0")  # a checkpoint takes long, so that it is always the thread's work
        prepare(db)
        return db

    def load(self) -> Loaded:
        """Reads everything on the caller's thread, so it must come before any other call. Raises StoreError if a row or a page is damaged."""
        try:
            return load(self._db, self._path)
        except sqlite3.Error as error:
            raise Unavailable(f"the store {self._path} can't be read: {error}", mend=MEND) from error

    async def reload(self) -> Loaded:
        loaded: Loaded = await self._writer.run(self._reload, None)
        return loaded

    def _reload(self, _nothing: None) -> Loaded:
        self._roll_back()
        return self.load()

    async def append(self, group: Sequence[Batch]) -> None:
        rows = [
            (batch.revision, change.entry.key, change.entry.value, change.entry.created, change.deleted)
            for batch in group
            for change in batch.changes
        ]
        if self._logged_bytes > _CHECKPOINT_BYTES:
            await self._run(self._checkpoint, None)
        alone_again = self._alone and len(group) == 1
        self._alone = len(group) == 1
        if alone_again and self._quick >= self._quick_in_a_row and len(rows) <= _ROWS and self._writer.idle:
            try:
                self._timed_append(rows)
            except sqlite3.Error as error:
                raise self._refused(error) from error
        else:
            await self._run(self._timed_append, rows)

    def _timed_append(self, rows: list[ChangeRow]) -> None:
        begun_s = time.perf_counter()
        try:
            self._append(rows)
        finally:
            took_s = time.perf_counter() - begun_s
            self._quick = self._quick + 1 if took_s <= self._quick_s else 0
            self._logged_bytes += sum(len(row[2]) for row in rows) + 2 * _PAGE_BYTES

    def _checkpoint(self, _nothing: None) -> None:
        """Moves the write-ahead log into the database, as far as no reader holds it up, so that the log begins anew instead of growing."""
        self._logged_bytes = 0
        with contextlib.suppress(sqlite3.Error):  # for example, no room: nothing is lost, and the next one tries again
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _append(self, rows: list[ChangeRow]) -> None:
        if len(rows) <= _ROWS:
            self._db.execute(_INSERT[len(rows)], parameters(rows))  # one statement is a transaction by itself
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for start in range(0, len(rows), _ROWS):
                part = rows[start : start + _ROWS]
                self._db.execute(_INSERT[len(part)], parameters(part))
            self._db.execute("COMMIT")
        finally:
            self._roll_back()

    async def compact(self, revision: int) -> None:
        await self._run(self._compact, revision)

    def _compact(self, revision: int) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            newest = self._db.execute("SELECT max(revision) FROM changes").fetchone()[0] or 0
            self._db.execute(COMPACT, {"at": revision})
            write_meta(self._db, compacted=revision, revision=newest)
            self._db.execute("COMMIT")
        finally:
            self._roll_back()
        self._checkpoint(None)

    def _roll_back(self) -> None:
        """Ends a transaction that is still open, so that the next piece of work does not run inside it."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    async def snapshot(self, path: Path) -> int:
        revision: int = await self._run(self._snapshot, path)
        return revision

    def _snapshot(self, path: Path) -> int:
        """Copies the database. It runs on the writer's thread, between two groups, so the copy holds exactly what is durable."""
        return copy(self._db, path)

    async def _run(self, work: Callable[[Any], Any], argument: Any) -> Any:
        try:
            return await self._writer.run(work, argument)
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def _refused(self, error: sqlite3.Error) -> Unavailable:
        return Unavailable(f"the store {self._path} refused a write: {error}", mend="free space on that disk")

    def close(self) -> None:
        self._writer.close()
        self._db.close()
        os.close(self._lock)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def lock(path: Path) -> int:
    """Takes the lock of the store in this file and returns its descriptor; closing that releases the lock. Raises StoreError if another process has it."""
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
    """Returns a Store that survives its process. Raises StoreError if the file can't be opened or read, or if another process has it."""
    engine = SqliteEngine(path)
    try:
        return LogStore(engine, settings)
    except BaseException:
        engine.close()
        raise
