"""Clients that ask for much and read nothing: what waits for them is bounded, ends after a time, and costs others nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from labctl.api.connection import Connection
from labctl.api.pieces import PIECE_BYTES, joined
from labctl.api.settings import ApiSettings
from labctl.resources.service import ListOptions
from tests.inprocess import ApiServer

MAPS = "/api/v1/namespaces/default/configmaps"
DEADLINE_S = 30.0
OBJECTS, OBJECT_BYTES = 60, 200_000  # together more than the kernel takes for a client that reads nothing


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, settings=ApiSettings(answer_stall_s=1e6, watch_stall_s=1e6)) as api:
        await fill(api)
        yield api


async def fill(api: ApiServer) -> None:
    kind = api.resources.registry["configmaps"]
    for number in range(OBJECTS):
        await api.resources.create(kind, "default", {"metadata": {"name": f"m{number}"}, "data": {"k": "x" * OBJECT_BYTES}})


async def asked(api: ApiServer, path: str, headers: str = "", who: str = "") -> asyncio.StreamWriter:
    """Asks, and reads nothing."""
    issued = api.authority.node(who) if who else api.authority.admin()
    _, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=api.tls(issued), limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is one of sockets
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
    return writer


def connections(api: ApiServer) -> list[Connection]:
    assert api.server._http is not None
    return [each for each in api.server._http.connections if isinstance(each, Connection)]


def unread(api: ApiServer) -> int:
    """The bytes that wait for the client of the only connection."""
    return sum(each.transport.get_write_buffer_size() for each in connections(api) if each.transport is not None)


async def until(condition: object) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.005)


async def waits_for_the_client(api: ApiServer) -> None:
    await until(lambda: any(each._paused for each in connections(api)))


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (MAPS, ""),
        (f"{MAPS}?labelSelector=!x", ""),
        (f"{MAPS}?pretty=1", ""),
        (f"{MAPS}?includeObject=Object", "Accept: application/json;as=Table;g=meta.k8s.io;v=v1\r\n"),
        (f"{MAPS}?watch=1", ""),
        (f"{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", ""),
    ],
)
async def test_little_waits_in_the_connection_of_a_client_that_reads_nothing(api: ApiServer, path: str, headers: str) -> None:
    writer = await asked(api, path, headers)
    await waits_for_the_client(api)
    assert unread(api) < 4 * PIECE_BYTES + 2 * OBJECT_BYTES
    writer.transport.abort()
    await until(lambda: not connections(api))


def test_a_list_is_joined_only_while_it_is_sent() -> None:
    objects = [b"%d" % number * 1000 for number in range(500)]
    pieces = joined(objects)
    assert b"".join(pieces) == b",".join(objects)
    assert len(b"".join(pieces)) == pieces.size
    parts = list(pieces.within(b"[", b"]"))
    assert b"".join(parts) == b"[" + b",".join(objects) + b"]"
    assert len(parts) > 3
    assert max(map(len, parts)) < PIECE_BYTES + 10_000
    assert next(iter(pieces)) is not next(iter(pieces)), "it is made anew for each reader"
    assert b"".join(joined([])) == b"" and joined([]).size == 0


async def test_what_there_is_reaches_a_watch_in_small_groups(api: ApiServer) -> None:
    watch = api.resources.watch(api.resources.registry["configmaps"], "default", ListOptions())
    seen = 0
    async for events in watch:
        assert sum(len(event.entry.value) for event in events) < PIECE_BYTES + 2 * OBJECT_BYTES
        seen += len(events)
        if seen == OBJECTS:
            break
    await watch.aclose()


@pytest.mark.parametrize("path", [MAPS, f"{MAPS}?pretty=1"])
async def test_an_answer_that_nobody_reads_ends_with_its_connection(tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture) -> None:
    async with ApiServer.running(tmp_path, settings=ApiSettings(answer_stall_s=0.2)) as api:
        await fill(api)
        writer = await asked(api, path)
        await until(lambda: len(connections(api)) == 1)
        await until(lambda: not connections(api))
        writer.transport.abort()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_one_who_reads_nothing_gets_no_more_large_answers(tmp_path: Path) -> None:
    """An indented list is made for its reader alone. A node's certificate has only so many of them; others are not concerned."""
    settings = ApiSettings(held_bytes_of_one=1_000_000, answer_stall_s=1e6)
    services = "/api/v1/services"
    async with ApiServer.running(tmp_path, settings=settings) as api:
        kind = api.resources.registry["services"]
        for number in range(100):
            spec = {"clusterIP": "None", "ports": [{"port": 1}]}
            metadata = {"name": f"s{number}", "annotations": {"a": "x" * 200_000}}
            await api.resources.create(kind, "default", {"metadata": metadata, "spec": spec})
        writer = await asked(api, f"{services}?pretty=1", who="minion-1")
        await waits_for_the_client(api)
        async with api.session("node:minion-1") as node, api.session("node:minion-2") as other, api.session() as admin:
            async with node.get("/api/v1/nodes/minion-1") as answered:
                assert (answered.status, answered.headers["Retry-After"]) == (429, "1")
            for free in (other, admin):
                async with free.get(f"{services}?pretty=1") as answered:
                    assert len((await answered.json())["items"]) == 100
            writer.transport.abort()
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    async with node.get(services) as answered:
                        if answered.status == 200:
                            break
                    await asyncio.sleep(0.01)
        assert not api.server._http.held_bytes  # type: ignore[union-attr]


@pytest.mark.parametrize("ending", ["abort", "close"])
async def test_who_goes_in_the_middle_is_not_written_to(api: ApiServer, ending: str, caplog: pytest.LogCaptureFixture) -> None:
    """asyncio writes a line into the log for each piece that nobody can be sent any more."""
    lists, many = await asked(api, MAPS), await asked(api, f"{MAPS}/m0?fieldManager=x")
    many.write(f"GET {MAPS}/none HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 3000)
    await waits_for_the_client(api)
    for writer in (lists, many):
        if ending == "abort":
            writer.transport.abort()
        else:
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            writer.close()
    await until(lambda: not connections(api))
    assert not [record.message for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_large_list_as_yaml_lets_others_run(api: ApiServer) -> None:
    async with api.session() as http:
        listing = asyncio.create_task(http.get(MAPS, headers={"Accept": "application/yaml"}))
        answered = 0
        while not listing.done():
            async with http.get(f"{MAPS}/none") as other:
                assert other.status == 404
            answered += 1
        async with listing.result() as yaml:
            assert yaml.status == 200 and (await yaml.text()).count("\n- ") >= OBJECTS
        assert answered > 3


@pytest.mark.parametrize(
    "selector", ["labelSelector=" + ",".join(f"!a{n}" for n in range(300)), "fieldSelector=" + ",".join(["metadata.name!=a"] * 300)]
)
async def test_a_selector_of_too_many_terms_is_refused(api: ApiServer, selector: str) -> None:
    async with api.session() as http:
        for path in (f"{MAPS}?{selector}", f"{MAPS}?watch=1&{selector}"):
            async with http.get(path) as answered:
                assert answered.status == 400 and "300 terms" in (await answered.json())["message"]
        values = ",".join(f"v{n}" for n in range(1000))
        async with http.get(f"{MAPS}?labelSelector=a in ({values})") as answered:
            assert answered.status == 200
