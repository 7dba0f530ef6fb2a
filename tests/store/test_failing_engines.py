"""What the log does when its engine fails in the middle. These tests reach into the log and its engines; the contract's (tests/contract) do not."""

import asyncio
import sqlite3
import time
from random import Random

import pytest

from labctl.errors import Unavailable
from labctl.sim.engine import FaultyEngine
from labctl.store.interface import Put
from labctl.store.log import LogStore
from labctl.store.sqlite import SqliteEngine, sqlite_store


async def test_a_store_whose_writer_is_cancelled_tells_its_callers():
    store = LogStore(FaultyEngine(Random(1), delay_s=60))
    waiting = asyncio.ensure_future(store.commit([Put("k", b"")]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    store._flushing.cancel()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(waiting, 5)


async def test_after_a_failure_nothing_uses_the_connection_at_once_with_a_compaction(tmp_path, monkeypatch):
    """The head was once rebuilt on the loop while the writer's thread compacted: its rollback undid the compaction, or failed."""
    engine = SqliteEngine(tmp_path / "store.db")
    store, using, overlaps = LogStore(engine), [], []

    def alone(work):
        def worked(argument):
            overlaps.extend(using)
            using.append(work.__name__)
            try:
                time.sleep(0.01)  # on the writer's thread: long enough to be caught
                return work(argument)
            finally:
                using.remove(work.__name__)

        return worked

    def refused(rows):
        raise sqlite3.OperationalError("disk I/O error")

    await store.commit([Put("k", b"1")])
    for name in ("_compact", "_reload"):
        monkeypatch.setattr(engine, name, alone(getattr(engine, name)))
    append = engine._append
    for round_ in range(5):
        revision = await store.commit([Put("k", b"%d" % round_)])
        monkeypatch.setattr(engine, "_append", refused)
        failing = asyncio.ensure_future(store.commit([Put("k", b"lost")]))
        await asyncio.gather(store.compact(revision), failing, return_exceptions=True)
        monkeypatch.setattr(engine, "_append", append)
    assert await store.commit([Put("k", b"end")]) == store.revision
    assert not overlaps and store.get("k").value == b"end"
    await store.close()


async def test_a_full_disk_refuses_and_then_heals(tmp_path):
    store = sqlite_store(tmp_path / "store.db")
    await store.commit([Put("a", b"1")])
    store._engine._db.execute("PRAGMA max_page_count=20")
    with pytest.raises(Unavailable, match="full"):
        await store.commit([Put("big", b"x" * 1_000_000)])
    assert store.get("big") is None
    store._engine._db.execute("PRAGMA max_page_count=1000000")
    assert await store.commit([Put("b", b"2")]) == 2
    await store.close()
