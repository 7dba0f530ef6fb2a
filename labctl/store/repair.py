"""A store's file that is not what was written: what is damaged in it, and a new store of the rows that are whole.

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
from labctl.store.file import SELECT, ChangeRow, checked, checked_meta, prepare, put_in_place, sync, write
from labctl.store.log import Loaded
from labctl.store.sqlite import lock

_DAMAGES = 1_000  # that are told one by one
_PARTS = ("", "-wal", "-shm")


class Examined(msgspec.Struct, frozen=True):
    """What is in a store's file. `damages` has one sentence for each row or page that is damaged; `more` counts those that are not listed."""

    whole: list[ChangeRow]
    damages: list[str]
    more: int = 0

    @property
    def objects(self) -> int:
        """How many keys the whole rows hold."""
        return len(_live(self.whole))


def examine(store: Path) -> Examined:
    """Read every row that can be read. Raises StoreError if the file is not there or a master has it open."""
    if not store.exists():
        raise StoreError(f"there is no store {store}")
    held = lock(store)
    try:
        return _examine_copy(store)
    finally:
        os.close(held)


def damages(snapshot: Path) -> list[str]:
    """What is damaged in a file that no master opens. Raises StoreError if it can't be copied."""
    return _examine_copy(snapshot).damages


def _examine_copy(store: Path) -> Examined:
    try:
        with tempfile.TemporaryDirectory(dir=store.parent) as folder:
            copied = Path(folder) / store.name
            for part in _PARTS:
                if (found := store.with_name(store.name + part)).exists():
                    shutil.copyfile(found, copied.with_name(copied.name + part))
            return _examine(copied, store)
    except OSError as error:
        raise StoreError(f"the store {store} can't be copied: {error.strerror}", mend="free space on that disk") from error


def keep_whole_rows(store: Path, examined: Examined) -> Path:
    """Put a store of the whole rows in the place of this one. Returns where the damaged file is now."""
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
    """The newest row of each key that is not deleted, in order."""
    newest = {row[1]: row for row in rows}
    return sorted((row for row in newest.values() if not row[4]), key=lambda row: row[0])


def _free_name(store: Path) -> Path:
    names = (store.with_suffix(f".damaged{number or ''}") for number in range(1_000))
    return next(name for name in names if not name.exists())


def _examine(copied: Path, store: Path) -> Examined:
    whole: dict[int, ChangeRow] = {}
    damages: dict[str, None] = {}
    try:
        with closing(sqlite3.connect(copied)) as db:
            prepare(db)
            for order in ("ASC", "DESC"):  # a page that can't be read ends the walk: from the other end what lies behind it is found
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
    return Examined([whole[id_] for id_ in sorted(whole)], told[:_DAMAGES], max(0, len(told) - _DAMAGES))


def _walk(db: sqlite3.Connection, order: str, store: Path) -> Iterator[tuple[int, ChangeRow] | Damaged | sqlite3.Error]:
    """Each row, or why it is not one. A page that can't be read is the last thing that is told."""
    try:
        for row in db.execute(f"{SELECT} ORDER BY id {order}"):
            try:
                yield row[0], checked(store, *row)
            except Damaged as damaged:
                yield damaged
    except sqlite3.Error as error:
        yield error
