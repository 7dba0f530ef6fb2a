"""What an open page is told: a picture, then changes; a slow page costs no memory; without a page nothing is done."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from labctl.dash import feed
from labctl.dash.feed import Feed, Page
from labctl.errors import ApiError
from labctl.reconcile.plan import Seen
from labctl.sim.picture import Picture


def pod(name: str, node: str = "minion-1", **status: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"nodeName": node, "containers": []}, "status": status}


def told(chunk: bytes) -> list[tuple[str, Any]]:
    """The messages of a chunk, as a browser reads them."""
    found = []
    for block in chunk.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if line)
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


class Open:
    """An open page over a picture of objects."""

    def __init__(self) -> None:
        self.picture = Picture()
        self.feed = Feed()

    def put(self, obj: dict[str, Any]) -> None:
        new = self.picture.put(obj)
        self.feed.seen(self.picture.view, Seen("pods", new.metadata.key, None, new))

    def chunks(self, page: Page):
        return page.chunks(lambda: {"objects": self.feed.objects()})


async def test_first_a_picture_then_each_change() -> None:
    some = Open()
    some.put(pod("a"))
    with some.feed.page() as page:
        chunks = some.chunks(page)
        [(name, value)] = told(await anext(chunks))
        assert name == "picture" and [one["key"] for one in value["objects"]] == ["default/a"]
        some.put(pod("a", phase="Running"))
        some.put(pod("b"))
        some.feed.seen(some.picture.view, Seen("pods", "default/a", None, None))
        [(name, items)] = told(await anext(chunks))
        assert name == "change"
        assert {one["key"]: one.get("gone", False) for one in items} == {"default/a": True, "default/b": False}


async def test_a_slow_page_has_one_item_for_each_object_and_then_a_fresh_picture() -> None:
    some = Open()
    some.put(pod("a"))
    with some.feed.page() as page:
        chunks = some.chunks(page)
        await anext(chunks)
        for number in range(5_000):
            some.put(pod("a", phase="Running", message=str(number)))
        [(name, items)] = told(await anext(chunks))
        assert name == "change" and [one["why"] for one in items] == ["4999"]
        for number in range(feed.WAITING_MAX + 10):
            some.put(pod(f"p{number}"))
        [(name, value)] = told(await anext(chunks))
        assert name == "picture" and len(value["objects"]) == feed.WAITING_MAX + 11


async def test_pages_are_bounded_and_closed_ones_make_room() -> None:
    some = Feed()
    opened = [some.page() for _ in range(feed.PAGES_MAX)]
    for one in opened:
        one.__enter__()
    with pytest.raises(ApiError) as refused, some.page():
        pass
    assert refused.value.code == 503
    opened[0].__exit__(None, None, None)
    with some.page():
        assert some.open_pages == feed.PAGES_MAX
    for one in opened[1:]:
        one.__exit__(None, None, None)
    assert some.open_pages == 0


async def test_other_messages_wait_as_their_newest_value() -> None:
    some = Open()
    with some.feed.page() as page:
        some.feed.tell("flow", [1])
        some.feed.tell("flow", [2])
        assert told(await anext(some.chunks(page)))[1:] == [("flow", [2])]


async def test_an_idle_page_hears_that_the_master_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "ALIVE_EVERY_S", 0.05)
    some = Open()
    with some.feed.page() as page:
        chunks = some.chunks(page)
        await anext(chunks)
        assert (await asyncio.wait_for(anext(chunks), 10)).startswith(b":")


def test_line_breaks_in_a_text_make_no_message() -> None:
    chunk = feed.message("change", [{"kind": "pod", "key": "x", "why": "a\n\nevent: picture\ndata: {}\r\n"}])
    assert [name for name, _ in told(chunk)] == ["change"] and chunk.count(b"\n") == 3


def test_a_picture_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.dash.items.OBJECTS_MAX", 10)
    some = Open()
    for number in range(30):
        some.put(pod(f"p{number}"))
    assert len(some.feed.objects()) == 10


def test_long_texts_are_cut_and_odd_objects_have_items() -> None:
    some = Open()
    some.put(pod("a", message="m" * 10_000))
    some.put(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"type": "ExternalName", "externalName": "example.test"}}
    )
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": {}, "message": "x" * 5_000}
    some.put(event)
    found = {one["kind"]: one for one in some.feed.objects()}
    assert len(found["pod"]["why"]) == len(found["event"]["message"]) == 300
    assert found["service"]["address"] == "example.test"
