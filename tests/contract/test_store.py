"""The store's contract, on the simplest Store there can be, and on the log with every engine: memory, SQLite, and one that delays and fails.

What concerns the log or an engine alone (failures, files, bounds) makes its own.

The watch properties are etcd's robustness checks (etcd tests/robustness): ordered, unique, atomic, reliable, resumable.
"""

import asyncio
import shutil
from functools import partial
from random import Random

import pytest

from labctl.errors import Compacted, Conflict, Lagging, StoreError, Unavailable
from labctl.sim.engine import FaultyEngine
from labctl.sim.store import SimplestStore
from labctl.store.file import highest_revision, rewind
from labctl.store.interface import Compare, Delete, Put
from labctl.store.log import LogStore
from labctl.store.memory import MemoryEngine, memory_store
from labctl.store.settings import StoreSettings
from labctl.store.sqlite import SqliteEngine, sqlite_store
from tests.work import calls


@pytest.fixture(params=["simplest", "memory", "sqlite", "sqlite-on-the-loop", "faulty"])
async def opened(request, tmp_path):
    """(store, reopen): reopen() is what a restart of the master does."""
    if request.param == "simplest":
        simplest = [SimplestStore()]

        async def again():
            await simplest[-1].close()
            simplest.append(SimplestStore(simplest[-1]))
            return simplest[-1]

        yield simplest[0], again
        await simplest[-1].close()
        return
    engines = {
        "memory": MemoryEngine,
        "sqlite": lambda: SqliteEngine(tmp_path / "store.db", quick_s=0),
        "sqlite-on-the-loop": lambda: SqliteEngine(tmp_path / "store.db", quick_s=60, quick_in_a_row=0),
        "faulty": lambda: FaultyEngine(Random(7), delay_s=0.002),
    }
    engine = engines[request.param]()
    stores = [LogStore(engine)]

    async def reopen():
        await stores[-1].close()
        stores.append(LogStore(engines[request.param]() if request.param.startswith("sqlite") else engine))
        return stores[-1]

    yield stores[0], reopen
    await stores[-1].close()


@pytest.fixture
def store(opened):
    return opened[0]


async def test_a_commit_is_one_revision_for_all_its_keys(store):
    revision = await store.commit([Put("a/1", b"x"), Put("a/2", b"y")])
    assert store.revision == revision
    assert [(e.key, e.revision, e.created) for e in store.range("a/").entries] == [("a/1", revision, revision), ("a/2", revision, revision)]
    assert store.get("a/2").value == b"y"


async def test_a_failed_compare_writes_nothing(store):
    first = await store.commit([Put("a", b"1")])
    with pytest.raises(Conflict) as conflict:
        await store.commit([Put("b", b"2"), Put("a", b"2")], [Compare("a", 0)])
    assert (conflict.value.key, conflict.value.actual) == ("a", first)
    assert store.get("b") is None and store.revision == first


async def test_two_callers_at_once_cannot_both_win(store):
    results = await asyncio.gather(*(store.commit([Put("k", b"%d" % i)], [Compare("k", 0)]) for i in range(10)), return_exceptions=True)
    assert sum(isinstance(r, int) for r in results) == 1
    assert sum(isinstance(r, Conflict) for r in results) == 9


async def test_a_deleted_key_can_be_made_again_and_is_new(store):
    await store.commit([Put("k", b"1")])
    gone, again = await asyncio.gather(store.commit([Delete("k", b"end")]), store.commit([Put("k", b"2")], [Compare("k", 0)]))
    entry = store.get("k")
    assert (entry.value, entry.created, entry.revision) == (b"2", again, again) and again > gone


async def test_deleting_a_missing_key_makes_no_revision(store):
    before = await store.commit([Put("k", b"1")])
    assert await store.commit([Delete("nothing")]) == before == store.revision


async def test_what_is_visible_is_acknowledged_in_the_same_step(store):
    task = asyncio.ensure_future(store.commit([Put("k", b"1")]))
    while store.get("k") is None:
        assert not task.done(), "acknowledged before it was visible"
        await asyncio.sleep(0)
    assert await task == store.revision


async def test_pages_are_in_key_order_and_say_what_remains(store):
    await store.commit([Put(f"p/{i:02}", b"") for i in range(10)] + [Put("q/1", b"")])
    page = store.range("p/", limit=4)
    assert [e.key for e in page.entries] == ["p/00", "p/01", "p/02", "p/03"]
    assert page.more and page.remaining == 6
    assert store.has("p/") and store.has("p/03") and store.has("") and not store.has("p/1") and not store.has("r") and not store.has("a")
    rest = store.range("p/", after="p/03")
    assert [e.key for e in rest.entries] == [f"p/{i:02}" for i in range(4, 10)] and not rest.more


async def test_changed_at_moves_with_each_change_below_a_prefix_and_stays_without(opened):
    store, reopen = opened
    await store.commit([Put("p/1", b"1"), Put("q/1", b"1")])
    before = store.changed_at("p/"), store.changed_at("p/space/")
    await store.commit([Put("q/2", b"1")])
    await store.commit([Delete("q/1")])
    assert (store.changed_at("p/"), store.changed_at("p/space/")) == before
    for op in (Put("p/space/2", b"2"), Put("p/space/2", b"3"), Delete("p/space/2")):
        changed = await store.commit([Put("q/3", b""), op])
        assert store.changed_at("p/") >= changed and store.changed_at("p/space/") >= changed
    assert (await reopen()).changed_at("p/") >= changed


async def test_the_past_is_as_it_was(store):
    one = await store.commit([Put("k", b"1")])
    two = await store.commit([Put("k", b"2"), Put("l", b"2")])
    await store.commit([Delete("k")])
    assert [(e.key, e.value) for e in store.range("", at=one).entries] == [("k", b"1")]
    assert [(e.key, e.value) for e in store.range("", at=two).entries] == [("k", b"2"), ("l", b"2")]
    with pytest.raises(ValueError, match="future"):
        store.range("", at=store.revision + 1)


async def test_a_watch_replays_then_follows(store):
    one = await store.commit([Put("w/1", b"1")])
    await store.commit([Put("w/1", b"2"), Put("x/1", b"")])
    watch = store.watch("w/", one)
    await store.commit([Put("x/2", b"")])
    gone = await store.commit([Delete("w/1", b"end")])
    first, second = await anext(watch), await anext(watch)
    assert [c.key for c in first.changes] == ["w/1"] and first.changes[0].previous.value == b"1"
    assert second.revision == gone and second.changes[0].deleted and second.changes[0].entry.value == b"end"
    await watch.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(watch)


async def test_a_listener_and_anext_together_get_each_batch_once_and_in_order(store):
    watch = store.watch("w/", store.revision)
    got, willing = [], [True]

    def listener():
        if willing[0]:
            got.extend(batch.revision for batch in watch.take())
        return willing[0]

    async def read():
        async for batch in watch:
            got.append(batch.revision)

    watch.listen(listener)
    reader = asyncio.ensure_future(read())
    for number in range(60):
        willing[0] = number % 7 not in (2, 3)
        await asyncio.gather(*(store.commit([Put(f"w/{each}", b"%d" % number)]) for each in range(1 + number % 3)))
        wrote = list(range(1, store.revision + 1))
        async with asyncio.timeout(5):
            while len(got) < len(wrote):
                await asyncio.sleep(0)
        assert got == wrote
    await watch.aclose()
    await asyncio.wait_for(reader, 5)


async def test_a_listener_that_fails_ends_the_watch_without_a_gap():
    store = memory_store()
    watch = store.watch("", 0)

    def listener():
        watch.take()
        raise ArithmeticError("our mistake")

    watch.listen(listener)
    reader = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    await asyncio.gather(*(store.commit([Put(f"{each}", b"")]) for each in range(3)))
    with pytest.raises(ArithmeticError):
        await asyncio.wait_for(reader, 5)
    await store.commit([Put("4", b"")])
    with pytest.raises(ArithmeticError):
        await asyncio.wait_for(anext(watch), 5)
    await store.close()


@pytest.mark.parametrize("make", [lambda: LogStore(MemoryEngine(), StoreSettings(watch_backlog=5)), lambda: SimplestStore(watch_backlog=5)])
async def test_a_slow_watcher_is_closed_never_waited_for(make):
    store = make()
    watch = store.watch("", 0)
    for i in range(7):
        await store.commit([Put(f"k{i}", b"")])
    with pytest.raises(Lagging):
        await anext(watch)
    await store.commit([Put("later", b"")])
    with pytest.raises(Lagging):  # it is told nothing more
        watch.take()


async def test_history_over_its_bound_has_a_compaction_target_until_it_is_compacted():
    store = LogStore(MemoryEngine(), StoreSettings(history_bytes=47_000))
    for _ in range(10):
        assert store.compaction_target == 0
        await store.commit([Put("k", b"x" * 1500)])
    assert store.compaction_target == 6
    await store.compact(store.compaction_target)
    assert (store.compaction_target, store.compacted) == (0, 6)
    assert (await anext(store.watch("", 6))).revision == 7
    await store.close()


async def test_memory_that_is_compacted_holds_what_is_there_and_looks_at_what_came():
    """It once kept up to twice as much, and looked through all of it from time to time: 256 MB of old revisions in a lab of 150,000 pods."""
    engine = MemoryEngine()
    store = LogStore(engine, StoreSettings())
    for i in range(1500):
        await store.commit([Put(f"k{i}", b"")])
    await store.compact(store.revision)
    for i in range(400):
        await store.commit([Delete("k1499")] if i % 50 == 49 else [Put(f"k{i % 10}" if i % 50 else "k1499", b"%d" % i)])
        if i % 20 == 0:
            assert len(engine._since) <= 20
            compacting = store.compact(store.revision)
            assert calls(partial(next, compacting.__await__(), None)) < 200
            assert (len(engine._newest), len(engine._since)) == (len(store.range("").entries), 0)
    again = LogStore(engine, StoreSettings())
    assert [(e.key, e.value, e.revision) for e in again.range("").entries] == [
        (e.key, e.value, e.revision) for e in store.range("").entries
    ]
    assert again.compacted == store.compacted
    await store.close()


async def test_a_refused_compaction_costs_no_later_commit(tmp_path, monkeypatch):
    store = sqlite_store(tmp_path / "store.db")
    for i in range(3):
        await store.commit([Put("k", b"%d" % i)])
    monkeypatch.setattr("labctl.store.sqlite.COMPACT", "DELETE FROM nowhere")
    with pytest.raises(Unavailable):
        await store.compact(2)
    assert await store.commit([Put("k", b"after")]) == 4
    monkeypatch.undo()
    await store.compact(3)
    await store.close()


async def test_compaction_keeps_live_keys_and_refuses_the_past(opened):
    store, reopen = opened
    one = await store.commit([Put("keep", b"1")])
    await store.commit([Put("gone", b"1")])
    await store.commit([Delete("gone")])
    four = await store.commit([Put("keep", b"4")])
    five = await store.commit([Put("late", b"5")])
    await store.compact(four)
    for _ in range(2):
        assert [(e.key, e.revision, e.created) for e in store.range("").entries] == [("keep", four, one), ("late", five, five)]
        with pytest.raises(Compacted):
            store.watch("", one)
        with pytest.raises(Compacted):
            store.range("", at=one)
        assert (await anext(store.watch("", four))).revision == five
        store = await reopen()


async def test_a_restart_keeps_everything_and_goes_on_above(opened):
    store, reopen = opened
    await store.commit([Put("a", b"1")])
    await store.commit([Put("b", b"2")])
    last = await store.commit([Delete("a", b"end")])
    store = await reopen()
    assert store.revision == last and [e.key for e in store.range("").entries] == ["b"]
    replay = [await anext(w) for w in [store.watch("", 0)] for _ in range(3)]
    assert [b.revision for b in replay] == [1, 2, 3] and replay[2].changes[0].previous.value == b"1"
    assert await store.commit([Put("c", b"")]) == last + 1


async def test_a_lazy_commit_shares_the_next_group(store):
    lazy = asyncio.ensure_future(store.commit([Put("lazy", b"")], lazy=True))
    await asyncio.sleep(0)
    eager = await store.commit([Put("eager", b"")])
    assert await lazy == eager - 1


async def test_a_failed_append_fails_all_staged_after_it_and_the_disk_decides():
    rng = Random(3)
    engine = FaultyEngine(rng, fail=0.3, delay_s=0.0005)
    store = LogStore(engine)
    seen, watch = [], store.watch("", 0)
    for round_ in range(60):
        results = await asyncio.gather(
            *(store.commit([Put(f"k{round_}-{i}", b"%d %d" % (round_, i))], [Compare(f"k{round_}-{i}", 0)]) for i in range(4)),
            return_exceptions=True,
        )
        for i, result in enumerate(results):
            entry = store.get(f"k{round_}-{i}")
            if isinstance(result, int):
                assert entry and entry.revision == result
            else:
                assert isinstance(result, Unavailable)
        seen += watch.take()
    engine.fail = 0
    await store.commit([Put("end", b"")])
    seen += watch.take()
    revisions = [b.revision for b in seen]
    assert revisions == sorted(set(revisions)), "ordered and unique"
    reopened = LogStore(engine)
    assert {e.key: e.revision for e in reopened.range("").entries} == {e.key: e.revision for e in store.range("").entries}
    told = {c.key: c.entry.revision for b in seen for c in b.changes}
    assert told == {e.key: e.revision for e in store.range("").entries}, "reliable: what is on disk was told"
    assert all(b"k%b-%b" % tuple(e.value.split()) == e.key.encode() for e in store.range("k").entries)


async def test_who_lost_a_race_waits_until_the_winner_is_visible(store):
    winner = asyncio.ensure_future(store.commit([Put("k", b"1")], [Compare("k", 0)]))
    await asyncio.sleep(0)
    with pytest.raises(Conflict) as lost:
        await store.commit([Put("k", b"2")], [Compare("k", 0)])
    await store.wait_finished(lost.value.actual)
    assert store.revision >= lost.value.actual == await winner
    await store.wait_finished(lost.value.actual)  # what is visible already is not waited for
    await store.wait_finished(1_000)


async def test_who_waits_for_a_revision_that_fails_goes_on(opened):
    store = LogStore(FaultyEngine(Random(1), fail=1, delay_s=0.001))
    first = asyncio.ensure_future(store.commit([Put("k", b"1")]))
    await asyncio.sleep(0)
    await asyncio.wait_for(store.wait_finished(1), 5)
    with pytest.raises(Unavailable):
        await first


async def test_a_writer_that_is_cancelled_harms_nobody(store):
    first, second = (asyncio.ensure_future(store.commit([Put(f"k{i}", b"")])) for i in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert store.get("k0") is not None, "what was begun is finished"


class Mistaken(MemoryEngine):
    """An engine with a mistake of ours in it: not every failure is a StoreError."""

    wrong = True

    async def append(self, group):
        if self.wrong:
            raise KeyError("a mistake")
        await super().append(group)


async def test_a_mistake_while_writing_leaves_nobody_waiting():
    store = LogStore(Mistaken())
    results = await asyncio.wait_for(asyncio.gather(*(store.commit([Put(f"k{i}", b"")]) for i in range(3)), return_exceptions=True), 5)
    assert all(isinstance(result, Unavailable) for result in results)
    Mistaken.wrong = False
    try:
        assert await asyncio.wait_for(store.commit([Put("k", b"")]), 5) == 1
    finally:
        Mistaken.wrong = True
    await store.close()


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 200])
async def test_a_group_of_any_size_is_kept_whole(tmp_path, rows):
    store = sqlite_store(tmp_path / "store.db")
    await asyncio.gather(*(store.commit([Put(f"k{i:03}", b"%d" % i)]) for i in range(rows)))
    await store.commit([Put(f"together{i:03}", b"") for i in range(rows)])
    await store.close()
    store = sqlite_store(tmp_path / "store.db")
    assert [e.value for e in store.range("k").entries] == [b"%d" % i for i in range(rows)]
    assert {e.revision for e in store.range("together").entries} == {rows + 1}
    await store.close()


async def test_a_second_process_is_refused(tmp_path):
    store = sqlite_store(tmp_path / "store.db")
    with pytest.raises(StoreError, match="another process"):
        sqlite_store(tmp_path / "store.db")
    await store.close()
    await sqlite_store(tmp_path / "store.db").close()


async def test_revisions_begin_above_min_revision(tmp_path):
    store = sqlite_store(tmp_path / "store.db", StoreSettings(min_revision=41))
    assert await store.commit([Put("a", b"")]) == 42
    await store.close()


# -- snapshots -------------------------------------------------------------------------------------------------------------------------


def restored(snapshot, folder, above=0):
    """A store made of a snapshot, as a restore makes it."""
    folder.mkdir(exist_ok=True)
    rewind(snapshot, folder / "store.db", above)
    return sqlite_store(folder / "store.db")


async def test_a_snapshot_has_everything_that_was_acknowledged_and_nothing_later(store, tmp_path):
    await store.commit([Put("a", b"1"), Put("b", b"1")])
    last = await store.commit([Delete("b"), Put("c", b"1")])
    taken = await store.snapshot(tmp_path / "kept")
    await store.commit([Put("a", b"2")])
    copy = restored(tmp_path / "kept", tmp_path / "other")
    assert taken == last
    assert [(e.key, e.value) for e in copy.range("").entries] == [("a", b"1"), ("c", b"1")]
    await copy.close()


async def test_a_snapshot_among_commits_is_of_one_moment(store, tmp_path):
    """Each commit writes both keys: no snapshot has one without the other."""
    writing = [asyncio.ensure_future(store.commit([Put("x", b"%d" % i), Put("y", b"%d" % i)])) for i in range(50)]
    await writing[10]
    taken = await store.snapshot(tmp_path / "kept")
    await asyncio.gather(*writing)
    copy = restored(tmp_path / "kept", tmp_path / "other")
    assert copy.get("x").value == copy.get("y").value
    assert copy.get("x").revision == taken >= writing[10].result()
    await copy.close()


async def test_time_never_goes_back_after_a_restore(store, tmp_path):
    await store.commit([Put("a", b"1")])
    await store.snapshot(tmp_path / "kept")
    seen = await store.commit([Put("a", b"2")])
    copy = restored(tmp_path / "kept", tmp_path / "other", above=seen)
    assert copy.revision > seen
    for since in range(1, seen + 1):
        with pytest.raises(Compacted):
            copy.watch("", since)
    watch = copy.watch("", copy.revision)
    assert await copy.commit([Put("a", b"3")]) == copy.revision > seen + 1
    assert [batch.changes[0].entry.value for batch in watch.take()] == [b"3"]
    await copy.close()


async def test_a_snapshot_of_what_was_restored_goes_on_above_that(store, tmp_path):
    await store.commit([Put("a", b"1")])
    await store.snapshot(tmp_path / "one")
    copy = restored(tmp_path / "one", tmp_path / "other", above=500)
    assert await copy.snapshot(tmp_path / "two") == copy.revision == 501
    await copy.close()
    again = restored(tmp_path / "two", tmp_path / "third")
    assert again.revision == 502 and again.get("a").value == b"1"
    await again.close()


async def test_a_restore_replaces_a_store_and_the_log_that_a_killed_writer_left(tmp_path):
    kept = sqlite_store(tmp_path / "a.db")
    await kept.commit([Put("k", b"kept")])
    await kept.snapshot(tmp_path / "kept")
    await kept.close()
    old = sqlite_store(tmp_path / "old.db")
    for i in range(20):
        await old.commit([Put(f"old/{i}", b"")])
    (tmp_path / "lab").mkdir()
    for end in ("", "-wal"):  # as a kill leaves them
        shutil.copy(tmp_path / f"old.db{end}", tmp_path / "lab" / f"store.db{end}")
    await old.close()
    assert highest_revision(tmp_path / "lab" / "store.db") == 20
    shutil.copy(tmp_path / "old.db", tmp_path / "lab" / "store.db-wal")  # whatever it is
    copy = restored(tmp_path / "kept", tmp_path / "lab", above=20)
    assert [e.key for e in copy.range("").entries] == ["k"] and copy.revision == 21
    await copy.close()


async def test_a_snapshot_that_finds_no_room_says_so_and_the_store_goes_on(tmp_path):
    store = sqlite_store(tmp_path / "store.db")
    await store.commit([Put("a", b"1")])
    with pytest.raises(Unavailable):
        await store.snapshot(tmp_path / "no" / "such" / "folder" / "kept")
    assert await store.commit([Put("a", b"2")]) == 2
    await store.close()


def test_a_store_that_is_not_there_never_gave_a_revision(tmp_path):
    assert highest_revision(tmp_path / "none.db") == 0
    (tmp_path / "bad.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="can't be read"):
        highest_revision(tmp_path / "bad.db")
    with pytest.raises(StoreError, match="can't be restored"):
        rewind(tmp_path / "bad.db", tmp_path / "store.db", 0)
    assert not (tmp_path / "store.db").exists() and not (tmp_path / "store.new").exists()
