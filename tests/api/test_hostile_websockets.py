"""WebSockets that are made to hurt: bad handshakes, floods of control frames and of tiny messages, frames that may not be."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from labctl.api.settings import ApiSettings
from labctl.sim.remote import FakeHost, FakeRemote
from tests.api import minions
from tests.inprocess import ApiServer

Lab = tuple[ApiServer, FakeHost, FakeRemote]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

DEADLINE_S = 30.0
WATCH = "/api/v1/namespaces/default/configmaps?watch=1"
EXEC = "/api/v1/namespaces/default/pods/web/exec?command=echo&command=x&stdout=true"
LOG = "/api/v1/namespaces/default/pods/web/log"
FORWARD = "/api/v1/namespaces/default/pods/web/portforward?ports=7"
GOOD = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg=="}
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MANY = 40_000


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with minions.lab(tmp_path) as made:
        yield made


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, reserved: int = 0, length: int | None = None, masked: bool = True) -> bytes:
    """A client's frame, with a mask of zeros."""
    size = len(data) if length is None else length
    head = bytes([fin << 7 | reserved << 4 | opcode])
    if not masked:
        return head + bytes([size]) + data
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += b"\xfe" + struct.pack(">H", size)
    else:
        head += b"\xff" + struct.pack(">Q", size)
    return head + bytes(4) + data


async def asked(api: ApiServer, path: str, headers: dict[str, str], method: str = "GET", body: str = "") -> tuple[bytes, Streams]:
    """The head of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=api.tls(api.authority.admin()))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n{body}".encode("utf-8", "surrogateescape"))
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE_S), (reader, writer)


async def opened(api: ApiServer, path: str = WATCH) -> Streams:
    head, streams = await asked(api, path, GOOD)
    assert head.startswith(b"HTTP/1.1 101"), head
    return streams


def watchers(api: ApiServer) -> int:
    return sum(len(found) for found in api.resources.store._watchers.values())  # type: ignore[attr-defined]


BAD = {
    "no key": {"Sec-WebSocket-Key": ""},
    "a short key": {"Sec-WebSocket-Key": "MDEyMw=="},
    "a key that is no base64": {"Sec-WebSocket-Key": "!" * 24},
    "a key that is no ASCII": {"Sec-WebSocket-Key": "\udcff" * 24},
    "no version": {"Sec-WebSocket-Version": ""},
    "another version": {"Sec-WebSocket-Version": "99"},
    "a body": {"Content-Length": "2"},
}


@pytest.mark.parametrize("path", [WATCH, EXEC, LOG, FORWARD])
@pytest.mark.parametrize("bad", BAD)
async def test_a_bad_handshake_is_refused_in_words_before_anything_begins(
    lab: Lab, path: str, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    api, host, _ = lab
    before = watchers(api)
    head, (reader, writer) = await asked(api, path, GOOD | BAD[bad], body="{}" if bad == "a body" else "")
    assert head.startswith(b"HTTP/1.1 400"), head
    assert b"websocket: " in await asyncio.wait_for(reader.read(1 << 16), DEADLINE_S)
    assert (watchers(api), host.ran) == (before, [])
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []
    writer.close()


async def test_an_upgrade_that_the_connection_does_not_name_is_none(lab: Lab) -> None:
    api, _, _ = lab
    head, (_, writer) = await asked(api, WATCH, GOOD | {"Connection": "keep-alive"})
    assert head.startswith(b"HTTP/1.1 200"), head
    writer.close()
    head, (_, writer) = await asked(api, WATCH, GOOD | {"Connection": "keep-alive, Upgrade"})
    assert head.startswith(b"HTTP/1.1 101"), head
    writer.close()


@pytest.mark.parametrize("path", [WATCH, EXEC.replace("echo&command=x", "cat&stdin=true"), LOG + "?follow=true"])
@pytest.mark.parametrize("opcode", [PING, PONG, BINARY])
async def test_a_flood_of_tiny_frames_lets_others_run(lab: Lab, path: str, opcode: int, caplog: pytest.LogCaptureFixture) -> None:
    """Forty thousand of them come in one read. The loop's other tasks get their turns while they are handled."""
    api, _, _ = lab
    reader, writer = await opened(api, path)
    turns, ended = 0, asyncio.Event()

    async def other() -> None:
        nonlocal turns
        while not ended.is_set():
            await asyncio.sleep(0)
            turns += 1

    running = asyncio.create_task(other())
    answered = asyncio.create_task(_last_pong(reader))
    async with asyncio.timeout(DEADLINE_S):
        writer.write(frame(opcode) * MANY)
        await writer.drain()
        writer.write(frame(PING, b"last"))
        await answered
    ended.set()
    await running
    assert turns > MANY / 100
    writer.transport.abort()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def _last_pong(reader: asyncio.StreamReader) -> None:
    """Reads until the answer to the last ping is there."""
    data = b""
    while b"\x8a\x04last" not in data:
        part = await reader.read(1 << 16)
        assert part, "the server closed the WebSocket"
        data = data[-8:] + part


async def test_who_pings_and_goes_is_not_answered_into_the_log(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    api, _, _ = lab
    _, writer = await opened(api)
    with suppress(ConnectionError):
        writer.write(frame(PING) * MANY)
        await writer.drain()
    writer.transport.abort()
    async with asyncio.timeout(DEADLINE_S):
        while watchers(api):
            await asyncio.sleep(0.01)
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) < 100


FORBIDDEN = {
    "a control frame that is too long": (frame(PING, b"x" * 126), 1002),
    "a control frame in parts": (frame(PING, b"x", fin=False), 1002),
    "reserved bits": (frame(BINARY, b"x", reserved=4), 1002),
    "no mask": (frame(BINARY, b"x", masked=False), 1002),
    "no mask in a control frame": (frame(PING, masked=False), 1002),
    "no mask after others": (frame(BINARY, b"x") * 9 + frame(TEXT, b"x" * 30_000) + frame(BINARY, b"x", masked=False), 1002),
    "an unknown operation": (frame(3, b"x"), 1002),
    "a continuation of nothing": (frame(0, b"x"), 1002),
    "a message within a message": (frame(BINARY, b"x", fin=False) + frame(BINARY, b"x"), 1002),
    "a message that is too long": (frame(BINARY, b"x", length=1 << 62), 1009),
    "a message of many parts that is too long": (frame(BINARY, b"x", fin=False) + frame(0, bytes(60_000), fin=False) * 3, 1009),
    "no UTF-8": (frame(TEXT, b"\xff\xff"), 1007),
    "a close without a code": (frame(CLOSE, b"x"), 1002),
    "a close with a bad code": (frame(CLOSE, b"\0\5"), 1002),
}


@pytest.mark.parametrize("what", FORBIDDEN)
async def test_what_may_not_be_sent_ends_the_websocket_with_its_code(lab: Lab, what: str, caplog: pytest.LogCaptureFixture) -> None:
    api, _, _ = lab
    data, code = FORBIDDEN[what]
    reader, writer = await opened(api)
    writer.write(data)
    async with asyncio.timeout(DEADLINE_S):
        assert await reader.readexactly(4) == b"\x88\x02" + struct.pack(">H", code)
        writer.close()
        while watchers(api):
            await asyncio.sleep(0.01)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100_000])
async def test_frames_are_understood_however_they_are_cut(lab: Lab, step: int) -> None:
    """Of every length that is written in another way. The last one has no mask."""
    api, _, _ = lab
    reader, writer = await opened(api)
    good = b"".join(frame(BINARY, bytes(size)) for size in (0, 1, 125, 126, 300, 40_000)) + frame(PING, b"still here")
    data = good + frame(PING, b"no", masked=False) + frame(PING, b"no more")
    for start in range(0, len(data), step):
        writer.write(data[start : start + step])
        if step < 100:
            await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE_S):
        assert await reader.readexactly(16) == b"\x8a\x0astill here\x88\x02\x03\xea"
    writer.transport.abort()


async def test_a_websocket_that_takes_nothing_is_cut_off(tmp_path: Path) -> None:
    async with ApiServer.running(tmp_path, settings=ApiSettings(watch_stall_s=0.1)) as api, api.session() as http:
        _, writer = await opened(api)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is one of sockets
        async with asyncio.timeout(DEADLINE_S):
            number = 0
            while watchers(api):
                body = {"metadata": {"name": f"m{number}"}, "data": {"k": "x" * 200_000}}
                async with http.post(WATCH.partition("?")[0], json=body) as made:
                    assert made.status == 201
                number += 1
        writer.transport.abort()
