"""Any sequence of commits, deletes, compactions and restarts agrees with a dict, at every revision that is still kept."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.store.interface import Compare, Delete, Put
from labctl.store.log import LogStore
from labctl.store.memory import MemoryEngine

KEYS = st.sampled_from(["a/1", "a/2", "b/1", "b/2"])
STEP = st.one_of(
    st.tuples(st.just("put"), st.lists(KEYS, min_size=1, max_size=3, unique=True)),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("compact"), st.integers(0, 40)),
    st.tuples(st.just("restart"), st.none()),
)


@settings(max_examples=150)
@given(st.lists(STEP, max_size=40), st.integers(0, 40))
def test_model(steps, watch_from):
    asyncio.run(run(steps, watch_from))


async def run(steps, watch_from):
    engine = MemoryEngine()
    store, model, past = LogStore(engine), {}, {0: {}}
    for step, argument in steps:
        if step == "put":
            revision = await store.commit([Put(k, b"%d" % len(past)) for k in argument], [Compare(k, model.get(k, 0)) for k in argument])
            model.update(dict.fromkeys(argument, revision))
        elif step == "delete":
            revision = await store.commit([Delete(argument)])
            model.pop(argument, None)
        elif step == "compact":
            await store.compact(argument)
        else:
            await store.close()
            store = LogStore(engine)
        past[store.revision] = dict(model)
    for revision, keys in past.items():
        if revision >= store.compacted and revision:
            assert {e.key: e.revision for e in store.range("", at=revision).entries} == keys
    since = max(watch_from, store.compacted)
    if since <= store.revision and since in past:
        state = dict(past[since])
        for batch in store.watch("", since).take():
            for change in batch.changes:
                assert (change.previous.revision if change.previous else None) == state.get(change.key)
                state.pop(change.key, None) if change.deleted else state.__setitem__(change.key, batch.revision)
        assert state == model
