"""Watches: every change once, in order, seen through a selector; where they start, and how they end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import ApiError
from labctl.resources.bootstrap import BootstrapSettings, ensure_bootstrap
from labctl.resources.encoding import client_bytes
from labctl.resources.service import WatchEvent
from labctl.resources.settings import ResourceSettings
from tests.resources.conftest import Lab, config, pod, told


async def test_without_a_revision_a_watch_begins_with_the_existing_objects(lab: Lab) -> None:
    await lab.create("configmaps", config("a"))
    watch = lab.watch("configmaps")
    await lab.create("configmaps", config("b"))
    assert [(kind, name) for kind, name, _ in told(await anext(watch))] == [("ADDED", "a")]
    assert [(kind, name) for kind, name, _ in told(await anext(watch))] == [("ADDED", "b")]


async def test_from_a_revision_a_watch_delivers_the_later_changes(lab: Lab) -> None:
    await lab.create("configmaps", config("a"))
    since = lab.store.revision
    await lab.patch("configmaps", "a", {"data": {"x": "1"}})
    await lab.delete("configmaps", "a")
    watch = lab.watch("configmaps", resource_version=str(since))
    assert told(await anext(watch)) == [("MODIFIED", "a", since + 1), ("DELETED", "a", since + 2)]


async def test_a_label_selector_turns_changes_into_added_and_deleted(lab: Lab) -> None:
    watch = lab.watch("configmaps", label_selector="app=x", resource_version=str(lab.store.revision))
    await lab.create("configmaps", config("a", {"app": "y"}))
    await lab.patch("configmaps", "a", {"metadata": {"labels": {"app": "x"}}})
    await lab.patch("configmaps", "a", {"data": {"k": "1"}})
    await lab.patch("configmaps", "a", {"metadata": {"labels": {"app": "y"}}})
    await lab.delete("configmaps", "a")
    events = await anext(watch)
    assert [kind for kind, *_ in told(events)] == ["ADDED", "MODIFIED", "DELETED"]
    gone = json.loads(client_bytes(events[-1].entry))
    assert gone["metadata"]["labels"] == {"app": "x"}, "it is shown as it last was in this watcher's world"
    assert gone["metadata"]["resourceVersion"] == str(lab.store.revision - 1), "at the revision of the change"


async def test_through_a_field_selector_a_node_sees_its_own_pods(lab: Lab) -> None:
    watch = lab.watch("pods", field_selector="spec.nodeName=minion-1", resource_version=str(lab.store.revision))
    for name, node in (("a", "minion-1"), ("b", "minion-2")):
        await lab.create("pods", pod(name))
        await lab.client.bind(f"default/{name}", node)
    assert [(kind, name) for kind, name, _ in told(await anext(watch))] == [("ADDED", "a")]


async def test_one_event_serves_all_watchers(lab: Lab) -> None:
    revision = str(lab.store.revision)
    watches = [lab.watch("configmaps", resource_version=revision) for _ in range(3)]
    watches.append(lab.watch("configmaps", resource_version=revision, label_selector="app=x"))
    await lab.create("configmaps", config("a", {"app": "x"}))
    events = [(await anext(watch))[0] for watch in watches]
    assert all(event is events[0] for event in events)


async def test_initial_events_end_with_a_bookmark_that_says_so(lab: Lab) -> None:
    await lab.create("configmaps", config("a"))
    watch = lab.watch("configmaps", bookmarks=True, initial=True, resource_version_match="NotOlderThan")
    assert [event.type for event in await anext(watch)] == ["ADDED"]
    [bookmark] = await anext(watch)
    assert bookmark.type == "BOOKMARK"
    body = json.loads(bookmark.entry.value)
    assert (body["kind"], body["apiVersion"]) == ("ConfigMap", "v1")
    assert body["metadata"]["resourceVersion"] == str(lab.store.revision)
    assert body["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_without_initial_events_it_begins_now(lab: Lab) -> None:
    await lab.create("configmaps", config("a"))
    watch = lab.watch("configmaps", initial=False, resource_version_match="NotOlderThan")
    await lab.create("configmaps", config("b"))
    assert [name for _, name, _ in told(await anext(watch))] == ["b"]


@pytest.mark.parametrize(("initial", "match"), [(None, "NotOlderThan"), (True, ""), (True, "Exact")])
async def test_initial_events_and_match_go_together(lab: Lab, initial: bool | None, match: str) -> None:
    with pytest.raises(ApiError) as caught:
        lab.watch("configmaps", initial=initial, resource_version_match=match)
    assert (caught.value.code, caught.value.reason) == (422, "Invalid")


async def test_bookmarks_come_when_nothing_happens() -> None:
    lab = Lab(ResourceSettings(bookmark_s=0.01))
    await ensure_bootstrap(lab.client, BootstrapSettings())
    watch = lab.watch("configmaps", bookmarks=True, resource_version=str(lab.store.revision))
    await lab.client.create("secrets", {"metadata": {"name": "s", "namespace": "default"}})
    [bookmark] = await anext(watch)
    assert (bookmark.type, bookmark.entry.revision) == ("BOOKMARK", lab.store.revision)


async def test_bookmarks_come_when_only_other_objects_change() -> None:
    lab = Lab(ResourceSettings(bookmark_s=0.05))
    await ensure_bootstrap(lab.client, BootstrapSettings())
    watch = lab.watch("configmaps", bookmarks=True, resource_version=str(lab.store.revision), label_selector="app=x")
    waiting = asyncio.ensure_future(anext(watch))
    async with asyncio.timeout(5):
        while not waiting.done():
            await lab.client.create("configmaps", {"metadata": {"generateName": "c", "namespace": "default"}})
            await asyncio.sleep(0.01)
    [bookmark] = await waiting
    assert bookmark.type == "BOOKMARK" and lab.store.revision - bookmark.entry.revision <= 1


async def test_a_revision_that_was_compacted(lab: Lab) -> None:
    for name in "abc":
        await lab.create("configmaps", config(name))
    await lab.store.compact(lab.store.revision)
    with pytest.raises(ApiError) as caught:
        lab.watch("configmaps", resource_version="1")
    assert (caught.value.code, caught.value.reason) == (410, "Expired")
    assert caught.value.message == f"too old resource version: 1 ({lab.store.revision})"


async def test_a_revision_from_the_future(lab: Lab) -> None:
    with pytest.raises(ApiError) as caught:
        lab.watch("configmaps", resource_version="999")
    assert caught.value.details["causes"][0]["reason"] == "ResourceVersionTooLarge"


async def test_a_watcher_that_is_too_slow_is_told_to_list_again() -> None:
    lab = Lab()
    lab.store._settings = type(lab.store._settings)(watch_backlog=3)
    await ensure_bootstrap(lab.client, BootstrapSettings())
    watch = lab.watch("configmaps", resource_version=str(lab.store.revision))
    for number in range(5):
        await lab.create("configmaps", config(f"c{number}"))
    with pytest.raises(ApiError) as caught:
        await anext(watch)
    assert (caught.value.code, caught.value.reason) == (410, "Expired")


async def test_a_closed_watch_is_forgotten(lab: Lab) -> None:
    watch = lab.watch("configmaps")
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    await watch.aclose()
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert not lab.store._watchers


Step = tuple[str, str, str]
STEPS = st.lists(
    st.tuples(st.sampled_from(["create", "label", "data", "delete"]), st.sampled_from("abc"), st.sampled_from("xy")), max_size=25
)


@settings(max_examples=60)
@given(steps=STEPS, selector=st.sampled_from(["", "app=x", "app!=x"]), start=st.integers(0, 25))
def test_the_events_of_a_watch_add_up_to_what_a_list_returns(steps: list[Step], selector: str, start: int) -> None:
    """List at any moment, apply what the watch tells from there: the same objects, at the same revisions, as a list at the end."""
    asyncio.run(_play(steps, selector, start))


async def _play(steps: list[Step], selector: str, start: int) -> None:
    lab = Lab()
    await ensure_bootstrap(lab.client, BootstrapSettings())
    seen: dict[str, Any] = {}
    watch = None
    for position, (what, name, label) in enumerate([*steps, ("end", "", "")]):
        if position == min(start, len(steps)):
            seen = _listed(lab, selector)
            watch = lab.watch("configmaps", label_selector=selector, resource_version=str(lab.store.revision))
        if what != "end":
            await _step(lab, what, name, label)
    assert watch is not None
    await lab.store.close()
    try:
        async for events in watch:
            _apply(seen, events)
    except ApiError:
        pass  # the store was closed
    assert seen == _listed(lab, selector)


async def _step(lab: Lab, what: str, name: str, label: str) -> None:
    try:
        if what == "create":
            await lab.create("configmaps", config(name, {"app": label}))
        elif what == "label":
            await lab.patch("configmaps", name, {"metadata": {"labels": {"app": label}}})
        elif what == "data":
            await lab.patch("configmaps", name, {"data": {"k": label}})
        else:
            await lab.delete("configmaps", name)
    except ApiError as error:
        assert error.code in (404, 409)


def _listed(lab: Lab, selector: str) -> dict[str, str]:
    return {
        name: lab.get("configmaps", name)["metadata"]["resourceVersion"]  # type: ignore[index]
        for name in lab.names("configmaps", label_selector=selector)
    }


def _apply(seen: dict[str, str], events: list[WatchEvent]) -> None:
    for kind, name, revision in told(events):
        if kind == "DELETED":
            del seen[name]
        else:
            assert (kind == "ADDED") == (name not in seen)
            seen[name] = str(revision)
