"""Finds what is damaged in a store's file, and makes a new store of the rows that are whole.

`labctl doctor --store` calls it while no master runs. `examine` only reads (a copy, so that even the write-ahead log stays as it is). `keep_whole_rows` puts a
new store in the old one's place and keeps the old file beside it (`store.damaged`), so nothing is ever thrown away.

What the whole rows say may be older than what was damaged: an object whose newest row is lost is as it was before, or gone. Therefore the new
store begins at a revision above every one that was ever given, and whoever watches lists again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from labctl.errors import Damaged, StoreError
from labctl.store.engine import Loaded
from labctl.store.file import SELECT, ChangeRow, checked, checked_meta, prepare, put_in_place, sync, write
from labctl.store.sqlite import lock

_DAMAGES = 1_000  # more are only counted
_PARTS = ("", "-wal", "-shm")


class DamageReport(msgspec.Struct, frozen=True):
    """The content of a store's file. `damages` has one sentence for each damaged row or page; `more` counts those that are not listed."""

    whole: list[ChangeRow]
    damages: list[str]
    more: int = 0

    @property
    def objects(self) -> int:
        """Return the number of keys that the whole rows hold."""
        return len(_live(self.whole))


def examine(store: Path) -> DamageReport:
    """Reads every row that can be read. Raises StoreError if the file does not exist or a master has it open."""
    if not store.exists():
        raise StoreError(f"there is no store {store}")
    held = lock(store)
    try:
        return _examine_copy(store)
    finally:
        os.close(held)


def damages(snapshot: Path) -> list[str]:
    """Returns a sentence for each damage of a file that no master opens, such as a snapshot. Raises StoreError if the file can't be copied."""
    return _examine_copy(snapshot).damages


def _examine_copy(store: Path) -> DamageReport:
    try:
        with tempfile.TemporaryDirectory(dir=store.parent) as folder:
            copied = Path(folder) / store.name
            for part in _PARTS:
                if (found := store.with_name(store.name + part)).exists():
                    shutil.copyfile(found, copied.with_name(copied.name + part))
            return _examine(copied, store)
    except OSError as error:
        raise StoreError(f"the store {store} can't be copied: {error.strerror}", mend="free space on that disk") from error


def keep_whole_rows(store: Path, examined: DamageReport) -> Path:
    """Replaces the store by a new one that holds the whole rows. Returns the new name of the damaged file."""
    held = lock(store)
    try:
        begin = max((row[0] for row in examined.whole), default=0) + len(examined.damages) + examined.more + 1
        new, aside = store.with_suffix(".new"), _free_name(store)
        write(new, Loaded(begin, begin, _live(examined.whole)))
        for part in _PARTS[:2]:
            if (old := store.with_name(store.name + part)).exists():
                shutil.copyfile(old, aside.with_name(aside.name + part))
                aside.with_name(aside.name + part).chmod(0o600)
        sync(aside)
        put_in_place(new, store)
        return aside
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"the store {store} can't be written anew: {error}", mend="free space on that disk") from error
    finally:
        os.close(held)


def _live(rows: list[ChangeRow]) -> list[ChangeRow]:
    """Returns the newest row of each key that is not deleted, in order."""
    newest = {row[1]: row for row in rows}
    return sorted((row for row in newest.values() if not row[4]), key=lambda row: row[0])


def _free_name(store: Path) -> Path:
    names = (store.with_suffix(f".damaged{number or ''}") for number in range(1_000))
    return next(name for name in names if not name.exists())


def _examine(copied: Path, store: Path) -> DamageReport:
    whole: dict[int, ChangeRow] = {}
    damages: dict[str, None] = {}
    try:
        with closing(sqlite3.connect(copied)) as db:
            prepare(db)
            for order in (
                "ASC",
                "DESC",
            ):  # a page that can't be read ends the walk: a second walk from the other end finds the rows behind it
                broken = False
                for found in _walk(db, order, store):
                    broken = broken or isinstance(found, sqlite3.Error)
                    if isinstance(found, tuple):
                        whole[found[0]] = found[1]
                    else:
                        damages[str(found) if isinstance(found, sqlite3.Error) else found.message] = None
                if not broken:
                    break
            checked_meta(store, db)
    except Damaged as damaged:
        damages[damaged.message] = None
    except sqlite3.Error as error:
        damages[f"the store {store} can't be read to its end: {error}"] = None
    told = list(damages)
    return DamageReport([whole[id_] for id_ in sorted(whole)], told[:_DAMAGES], max(0, len(told) - _DAMAGES))


def _walk(db: sqlite3.Connection, order: str, store: Path) -> Iterator[tuple[int, ChangeRow] | Damaged | sqlite3.Error]:
    """Yields each row, or the error that says why it can't be used. The walk ends at the first page that can't be read."""
    try:
        for row in db.execute(f"{SELECT} ORDER BY id {order}"):
            try:
                yield row[0], checked(store, *row)
            except Damaged as damaged:
                yield damaged
    except sqlite3.Error as error:
        yield error
