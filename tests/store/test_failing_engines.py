"""What the log does when its engine fails in the middle. These tests reach into the log and its engines; the contract's (tests/contract) do not."""

import asyncio
import sqlite3
import threading
import time
from random import Random

import pytest

from labctl.errors import Unavailable
from labctl.sim.engine import FaultyEngine
from labctl.store.interface import Put
from labctl.store.log import LogStore
from labctl.store.memory import MemoryEngine
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


async def test_the_loop_writes_lone_commits_of_a_quick_disk_and_nothing_else(tmp_path, monkeypatch):
    engine = SqliteEngine(tmp_path / "store.db", quick_s=60, quick_in_a_row=3)
    store, wrote = LogStore(engine), []
    append = engine._append

    def noted(rows):
        wrote.append(threading.current_thread() is threading.main_thread())
        append(rows)

    async def commits(*together):
        await asyncio.gather(*(store.commit([Put(f"{key}", b"")]) for key in range(*together)))

    monkeypatch.setattr(engine, "_append", noted)
    for number in range(5):
        await commits(number, number + 1)
    assert wrote == [False, False, False, True, True]
    wrote.clear()
    await commits(10, 13)  # one that finds the engine free, and two that wait for it; or all in one group
    before = len(wrote)
    await commits(20, 21)
    await commits(21, 22)
    assert not any(wrote[1:-1]) and wrote[-1] and before >= 1
    engine._quick_s = 0.0  # from now on the disk is slow
    wrote.clear()
    for number in range(30, 34):
        await commits(number, number + 1)
    assert wrote == [True, False, False, False]
    await store.close()


async def test_a_refused_write_on_the_loop_is_told_as_one_of_the_thread(tmp_path, monkeypatch):
    engine = SqliteEngine(tmp_path / "store.db", quick_s=60, quick_in_a_row=0)
    store = LogStore(engine)
    await store.commit([Put("a", b"1")])
    append = engine._append

    def refused(rows):
        assert threading.current_thread() is threading.main_thread()
        append(rows)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(engine, "_append", refused)
    with pytest.raises(Unavailable, match="disk I/O error"):
        await store.commit([Put("b", b"2")])
    monkeypatch.undo()
    assert await store.commit([Put("c", b"3")]) == 3
    assert store.get("b").value == b"2"  # it is on the disk in spite of the error, and that is the truth
    await store.close()


class LateReader(FaultyEngine):
    """It fails each append, stores it all the same, and needs a while to be read again; or can't be read."""

    unreadable = False

    async def append(self, group):
        await MemoryEngine.append(self, group)
        raise Unavailable("the disk refused a write")

    async def reload(self):
        await asyncio.sleep(0.02)
        if self.unreadable:
            raise Unavailable("the disk can't be read")
        return await super().reload()


async def test_who_is_told_of_an_error_reads_what_was_written_in_spite_of_it():
    store = LogStore(LateReader(Random(1)))
    with pytest.raises(Unavailable, match="refused a write"):
        await store.commit([Put("a", b"1")])
    assert store.get("a").value == b"1"
    await store.close()


async def test_a_disk_that_can_not_be_read_after_a_failure_keeps_nobody_waiting():
    engine = LateReader(Random(1))
    engine.unreadable = True
    store = LogStore(engine)
    with pytest.raises(Unavailable, match="refused a write"):
        await asyncio.wait_for(store.commit([Put("a", b"1")]), 5)
    engine.unreadable = False
    with pytest.raises(Unavailable, match="refused a write"):
        await store.commit([Put("b", b"2")])
    assert (store.get("a").value, store.get("b").value) == (b"1", b"2")
    await store.close()


async def test_the_write_ahead_log_does_not_grow(tmp_path):
    """Neither for ever, nor by writes on the loop, which leave its move into the database to the thread."""
    engine = SqliteEngine(tmp_path / "store.db", quick_s=60, quick_in_a_row=0)
    store, threads, checkpoint = LogStore(engine), [], engine._checkpoint

    def noted(argument):
        threads.append(threading.current_thread() is threading.main_thread())
        checkpoint(argument)

    engine._checkpoint = noted
    value = b"v" * 50_000
    for number in range(600):  # 30 MB
        await store.commit([Put(f"k{number % 10}", value)])
    assert (tmp_path / "store.db-wal").stat().st_size < 12 << 20
    assert len(threads) >= 4 and not any(threads)
    await store.close()
    again = sqlite_store(tmp_path / "store.db")
    assert again.revision == 600 and again.get("k9").value == value
    await again.close()
