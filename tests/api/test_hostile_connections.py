"""Connections that are made to hurt: many of them, slow ones, compressed bodies. Others are answered meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from labctl.api.connection import Connection
from labctl.api.settings import ApiSettings
from labctl.certificates import Issued
from tests.inprocess import ApiServer

SETTINGS = ApiSettings(head_s=0.3, body_s=0.3, connections_of_one=3)
CONFIG = "/api/v1/namespaces/default/configmaps"
POST = f"POST {CONFIG} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
DEADLINE_S = 30.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, settings=SETTINGS) as api:
        yield api


async def opened(api: ApiServer, who: Issued | None) -> Streams:
    return await asyncio.open_connection("127.0.0.1", api.port, ssl=api.tls(who))


async def said(streams: Streams, data: bytes = b"") -> bytes:
    """What the server says until it closes the connection, or until the first answer is there."""
    reader, writer = streams
    with suppress(ConnectionError):
        writer.write(data)
        return await asyncio.wait_for(reader.read(1 << 16), DEADLINE_S)
    return b""


async def others_are_served(api: ApiServer) -> None:
    async with api.session() as http, http.get(CONFIG) as answered:
        assert answered.status == 200


async def test_connections_that_say_nothing_are_few_and_others_get_in(tmp_path: Path) -> None:
    """Before TLS nobody knows who it is. The one that has waited longest ends, so that an honest one passes through the same address."""
    few = ApiSettings(handshakes_of_one=4, handshakes=8, handshake_s=60)
    async with ApiServer.running(tmp_path, settings=few) as api:
        silent = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(20)]
        silent += [await asyncio.open_connection("127.0.0.1", api.port, local_addr=(f"127.0.0.{n}", 0)) for n in range(2, 9)]
        await others_are_served(api)
        async with asyncio.timeout(DEADLINE_S):
            ended = [await reader.read(1) for reader, _ in silent[:16]]
            assert ended == [b""] * 16
            while len([1 for reader, _ in silent if not reader.at_eof()]) > few.handshakes:
                await asyncio.sleep(0.01)
        for _, writer in silent:
            writer.close()


async def test_what_is_no_handshake_ends_and_costs_nothing_more(api: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    for begun in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 70_000, b"\0", b"SSH-2.0-x\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        with suppress(ConnectionError):
            writer.write(begun)
            writer.write_eof()
            async with asyncio.timeout(DEADLINE_S):
                while await reader.read(1 << 16):
                    pass
        writer.close()
    await others_are_served(api)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("who", ["", "minion-1"])
async def test_one_has_only_so_many_connections_and_gets_their_places_back(api: ApiServer, who: str) -> None:
    issued = api.authority.node(who) if who else None
    ask = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
    kept = [await opened(api, issued) for _ in range(SETTINGS.connections_of_one)]
    for each in kept:
        assert (await said(each, ask)).startswith(b"HTTP/1.1 200")
    assert await said(await opened(api, issued), ask) == b""
    await others_are_served(api)
    for _, writer in kept:
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(DEADLINE_S):
        while not (await said(await opened(api, issued), ask)).startswith(b"HTTP/1.1 200"):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("begun", [b"", b"\r\n\r\n", b"GET / HT", b"GET /readyz HTTP/1.1\r\nA: b\r\n"])
async def test_a_head_that_does_not_come_ends_its_connection(api: ApiServer, begun: bytes) -> None:
    assert await said(await opened(api, None), begun) == b""
    second = await opened(api, None)
    assert (await said(second, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 200")
    if begun:
        assert await said(second, begun) == b"", "a later request's head has its time, too"
    await others_are_served(api)


CHUNKED = b"POST /version HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
PIPELINED = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n" * 2


@pytest.mark.parametrize("before", [CHUNKED, PIPELINED, CHUNKED + PIPELINED])
async def test_a_head_has_its_time_whatever_came_before(api: ApiServer, before: bytes) -> None:
    """After a body in chunks, or requests that came together, nobody knows in advance where the next head begins. It dripped for five minutes."""
    reader, writer = await opened(api, None)
    writer.write(before)
    async with asyncio.timeout(DEADLINE_S):
        for _ in range(before.count(b"HTTP/1.1")):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
        with suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"GET /version HTTP/1.1\r\nA: b\r\n" if before else b"A: b\r\n")
                before = b""
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        assert await reader.read(100) == b""
    await others_are_served(api)


async def test_a_body_that_comes_after_its_head_is_no_late_head(api: ApiServer) -> None:
    """Neither a request that takes longer than a head may, nor an idle connection, is ended by it."""
    reader, writer = await opened(api, api.authority.admin())
    for number in range(3):
        body = b'{"metadata":{"name":"m%d"}}' % number
        writer.write(POST + b"Content-Length: %d\r\n\r\n" % len(body))
        await writer.drain()
        for byte in body:
            writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        async with asyncio.timeout(DEADLINE_S):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 201"), head
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
    (connection,) = api.server._http.connections  # type: ignore[union-attr]
    assert connection._deadline is None  # type: ignore[attr-defined]
    writer.close()


async def test_a_body_that_does_not_come_is_answered(api: ApiServer) -> None:
    streams = await opened(api, api.authority.admin())
    answer = await said(streams, POST + b"Content-Length: 100\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408") and b"did not come within 0.3 s" in answer


async def test_a_watch_outlives_the_time_for_a_head(api: ApiServer) -> None:
    async with api.session() as http, http.get(f"{CONFIG}?watch=1&timeoutSeconds=1") as answered:
        assert answered.status == 200
        assert await asyncio.wait_for(answered.content.read(), DEADLINE_S) == b""


async def test_a_compressed_body_is_not_unpacked(api: ApiServer) -> None:
    """Kubernetes does not know it; two hundred megabytes of nothing are 200 KB."""
    async with api.session() as http:
        body = gzip.compress(b"[" * 1_000_000)
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        async with http.post(CONFIG, data=body, headers=headers) as answered:
            assert answered.status == 400, await answered.text()


async def test_a_method_that_asks_for_a_tunnel_is_refused_in_words(api: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    answer = await said(await opened(api, api.authority.admin()), b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405"), answer
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.fixture
async def patient(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path) as api:
        yield api


UPGRADE = b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
IN_CHUNKS = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("who", ["", "minion-1"])
@pytest.mark.parametrize("chunk", [b"1\r\n \r\n", b"1;" + b"x" * 200 + b"\r\n \r\n", b"1;" + b"x" * 40_000 + b"\r\n \r\n"])
@pytest.mark.parametrize("before", [b"", CHUNKED, b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n", UPGRADE])
async def test_a_body_in_tiny_chunks_is_ended(
    patient: ApiServer, who: str, chunk: bytes, before: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Each chunk costs the parser the same: with eight such connections, another client waited 0.8 s. Nobody needs a certificate for it."""
    reader, writer = await opened(patient, patient.authority.node(who) if who else None)
    answers = bytearray()

    async def listen() -> None:
        with suppress(ConnectionError):
            while part := await reader.read(1 << 16):
                answers.extend(part)

    listening = asyncio.create_task(listen())
    taken = 0
    with suppress(ConnectionError):
        writer.write(before + IN_CHUNKS)
        while not listening.done() and taken < 64 << 20:
            writer.write(chunk * (1 + 8000 // len(chunk)))
            taken += len(chunk) * (1 + 8000 // len(chunk))
            await writer.drain()
            await asyncio.sleep(0)
    await asyncio.wait_for(listening, DEADLINE_S)
    assert taken < 64 << 20
    assert not answers or answers.count(b"HTTP/1.1 400" if who else b"HTTP/1.1 401") <= 1 + before.count(b"HTTP/1.1")
    writer.close()
    await others_are_served(patient)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_the_client_is_told_that_its_chunks_are_too_many(patient: ApiServer) -> None:
    answer = await said(await opened(patient, patient.authority.admin()), IN_CHUNKS + b"1\r\n \r\n" * 10_000)
    assert answer.startswith(b"HTTP/1.1 400") and b"too many small chunks" in answer


def in_chunks(body: bytes, size: int) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize(("size", "length"), [(1, 800), (64, 900_000), (40_000, 900_000)])
async def test_a_body_in_honest_chunks_is_read(patient: ApiServer, size: int, length: int) -> None:
    streams = await opened(patient, patient.authority.admin())
    reader, writer = streams
    for number in range(3):
        body = b'{"metadata":{"name":"m%d"},"data":{"k":"%b"}}' % (number, b"x" * length)
        writer.write(IN_CHUNKS + in_chunks(body, size))
        async with asyncio.timeout(DEADLINE_S):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 201"), head
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
    writer.close()


async def test_many_bodies_in_chunks_behind_heads_in_two_parts_are_read(patient: ApiServer) -> None:
    """What came of a head before the rest of it is no part of a body."""
    reader, writer = await opened(patient, patient.authority.admin())
    head = IN_CHUNKS.replace(b"Host: x\r\n", b"Host: x\r\nX: " + b"y" * 4000 + b"\r\n")
    for number in range(20):
        body = in_chunks(b'{"metadata":{"name":"m%d"}}' % number, 1000)
        writer.write(head[:2000])
        await writer.drain()
        await asyncio.sleep(0)
        writer.write(head[2000:] + body)
        async with asyncio.timeout(DEADLINE_S):
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 201"), answer
            await reader.readexactly(int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
    writer.close()


async def test_a_body_in_chunks_is_not_taken_for_a_head(patient: ApiServer) -> None:
    """Between its head and its handler a request belongs to nobody. When more of its body came then, its connection was cut 32 s later, in whatever it did."""
    assert patient.server._http is not None
    reader, writer = await opened(patient, patient.authority.admin())
    for number in range(9):
        body = b'{"metadata":{"name":"m%d"},"data":{"k":"%b"}}' % (number, b"x" * 900_000)
        writer.write(IN_CHUNKS + in_chunks(body, 40_000))
        async with asyncio.timeout(DEADLINE_S):
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 201"), answer
            await reader.readexactly(int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
        assert [each._deadline for each in patient.server._http.connections if isinstance(each, Connection)] == [None]
    writer.close()
