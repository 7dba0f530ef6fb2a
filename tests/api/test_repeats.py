"""A GET that was asked before with the same bytes is answered without parsing: the answer is the one that it would have had the ordinary way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from labctl.api import connection
from labctl.api.audit import AuditLog
from labctl.api.interference import ApiFault, Interference
from labctl.api.repeats import Repeats
from labctl.api.settings import ApiSettings
from labctl.certificates import Issued
from labctl.clock import SystemClock
from labctl.resources.service import User
from tests.inprocess import ApiServer, client_tls

MAP = "/api/v1/namespaces/default/configmaps/m"


class Wire:
    """One connection, byte for byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, *parts: bytes) -> tuple[int, bytes]:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            if len(parts) > 1:
                await asyncio.sleep(0.02)  # so that they arrive apart
        return await self.answer()

    async def answer(self) -> tuple[int, bytes]:
        async with asyncio.timeout(5):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            return int(head.split(b" ")[1]), await self.reader.readexactly(length)


def request(path: str = MAP, *lines: str, method: str = "GET", body: bytes = b"", version: str = "1.1") -> bytes:
    lines = ("Host: localhost", *lines, *([f"Content-Length: {len(body)}", "Content-Type: application/json"] if body else []))
    return "\r\n".join([f"{method} {path} HTTP/{version}", *lines, "", ""]).encode() + body


@asynccontextmanager
async def wired(api: ApiServer, who: Issued | None = None) -> AsyncIterator[Wire]:
    tls = client_tls(api.authority, who or api.authority.admin(), api.directory)
    wire = Wire(*await asyncio.open_connection("127.0.0.1", api.port, ssl=tls))
    try:
        yield wire
    finally:
        wire.writer.close()


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The requests that were answered again."""
    seen: list[bytes] = []
    whole = Repeats.answer

    def answer(self: Repeats, sent: bytes, user: User) -> bytes | None:
        answered = whole(self, sent, user)
        if answered is not None:
            seen.append(sent)
        return answered

    monkeypatch.setattr(Repeats, "answer", answer)
    return seen


async def write(api: ApiServer, value: str) -> None:
    kind = api.resources.registry["configmaps"]
    if api.resources.store.get(kind.key("default", "m")) is None:
        await api.resources.create(kind, "default", {"metadata": {"name": "m"}, "data": {"a": value}})
    else:
        await api.resources.patch(kind, "default", "m", b'{"data":{"a":"%b"}}' % value.encode(), "application/merge-patch+json")


async def test_the_same_bytes_have_the_same_answer_and_each_write_is_seen(api: ApiServer, repeated: list[bytes]) -> None:
    await write(api, "one")
    async with wired(api) as wire:
        first = await wire.ask(request())
        assert await wire.ask(request()) == first and first[0] == 200
        await write(api, "two")
        code, body = await wire.ask(request())
        assert code == 200 and b'"two"' in body and body.endswith(b"}\n")
        assert len(repeated) == 2


async def test_another_client_gets_what_it_may_see(api: ApiServer, repeated: list[bytes]) -> None:
    """What is remembered is what the bytes mean, not who may ask."""
    await write(api, "one")
    async with wired(api) as admin, wired(api, api.authority.issue("somebody", ["people"])) as other:
        for _ in range(3):
            assert (await admin.ask(request()))[0] == 200
            code, body = await other.ask(request())
            assert code == 403 and b"cannot get resource" in body
        assert len(repeated) == 2


async def test_what_is_gone_is_answered_in_the_usual_words_and_what_is_new_again(api: ApiServer, repeated: list[bytes]) -> None:
    await write(api, "one")
    kind = api.resources.registry["configmaps"]
    async with wired(api) as wire:
        assert (await wire.ask(request()))[0] == (await wire.ask(request()))[0] == 200
        await api.resources.delete(kind, "default", "m")
        code, body = await wire.ask(request())
        assert code == 404 and b'configmaps \\"m\\" not found' in body
        await write(api, "two")
        assert b'"two"' in (await wire.ask(request()))[1]
        assert len(repeated) == 2


@pytest.mark.parametrize(
    "sent",
    [
        request(method="HEAD"),
        request(f"{MAP}?watch=0&timeoutSeconds=1", "Authorization: Bearer x"),
        request(MAP, "Impersonate-User: somebody", "Impersonate-Group: system:masters"),
        request(MAP, "impersonate-user: somebody", "Impersonate-Group: system:masters"),
        request(MAP, "Accept: application/yaml"),
        request(MAP, "Accept: application/json;as=Table;v=v1;g=meta.k8s.io"),
        request(MAP, "Content-Length: 0"),
        request(MAP, "Connection: close"),
        request(MAP, version="1.0"),
        request(MAP, f"X-Long: {'x' * 3000}"),
        request("/api/v1/namespaces/default/configmaps"),
        request("/version"),
    ],
)
async def test_only_plain_reads_of_one_object_are_remembered(api: ApiServer, repeated: list[bytes], sent: bytes) -> None:
    await write(api, "one")
    for _ in range(2):
        async with wired(api) as wire:
            wire.writer.write(sent)
            async with asyncio.timeout(5):
                assert b" 200 " in await wire.reader.readuntil(b"\r\n\r\n")
    assert not repeated


async def test_heads_in_pieces_bodies_and_several_at_once_are_kept_apart(api: ApiServer, repeated: list[bytes]) -> None:
    await write(api, "one")
    get, many = request(), 7
    new = request("/api/v1/namespaces/default/configmaps", method="POST", body=b'{"metadata":{"generateName":"n-"}}')
    async with wired(api) as wire:
        assert (await wire.ask(get))[0] == (await wire.ask(get))[0] == 200  # known from here on
        assert (await wire.ask(new[:-5], new[-5:]))[0] == 201  # the body came in two pieces
        assert (await wire.ask(get))[0] == 200
        assert (await wire.ask(new))[0] == 201
        assert (await wire.ask(get))[0] == 200
        assert len(repeated) == 3
        wire.writer.write(get * many + new + get)
        assert [(await wire.answer())[0] for _ in range(many + 2)] == [200] * many + [201, 200]
        assert (await wire.ask(get[:20], get[20:]))[0] == 200
        assert (await wire.ask(get))[0] == 200  # after that it is not certain where a request begins
    async with wired(api) as wire:
        wire.writer.write(new[:-5])
        await wire.writer.drain()
        await asyncio.sleep(0.05)
        wire.writer.write(new[-5:] + get)  # the answer to the write comes first
        assert [(await wire.answer())[0], (await wire.answer())[0]] == [201, 200]


async def test_a_body_that_looks_like_a_request_is_a_body(api: ApiServer, repeated: list[bytes]) -> None:
    await write(api, "one")
    async with wired(api) as wire:
        assert (await wire.ask(request()))[0] == (await wire.ask(request()))[0] == 200
        head = request("/api/v1/namespaces/default/configmaps", method="POST", body=request())[: -len(request())]
        assert (await wire.ask(head, request()))[0] == 400
        assert len(repeated) == 1


async def test_audit_sees_every_request(tmp_path: Path, repeated: list[bytes]) -> None:
    log = AuditLog(tmp_path / "audit.log", SystemClock())
    async with ApiServer.running(tmp_path, audit=log) as api:
        await write(api, "one")
        async with wired(api) as wire:
            for _ in range(3):
                assert (await wire.ask(request()))[0] == 200
    assert not repeated


async def test_a_fault_of_the_api_meets_who_repeats_itself(tmp_path: Path, repeated: list[bytes]) -> None:
    interference = Interference(Random(1))
    async with ApiServer.running(tmp_path, interference=interference) as api:
        await write(api, "one")
        async with wired(api) as wire:
            assert (await wire.ask(request()))[0] == (await wire.ask(request()))[0] == 200
            interference.put(ApiFault("one", "labctl-admin", code=503))
            assert (await wire.ask(request()))[0] == 503
            interference.remove("one")
            assert (await wire.ask(request()))[0] == 200
    assert len(repeated) == 2


async def test_a_connection_in_use_is_not_closed_as_idle(tmp_path: Path, repeated: list[bytes]) -> None:
    """aiohttp counts the time from the last request that it saw. So now and then one goes through it."""
    async with ApiServer.running(tmp_path, settings=ApiSettings(keepalive_s=0.4)) as api:
        await write(api, "one")
        async with wired(api) as wire:
            loop = asyncio.get_running_loop()
            until = loop.time() + 1.2
            while loop.time() < until:
                assert (await wire.ask(request()))[0] == 200
        assert len(repeated) > 10


async def test_who_asks_without_reading_is_made_to_wait(api: ApiServer) -> None:
    """Or the answers would pile up in the master's memory."""
    await write(api, "x" * 30_000)
    async with wired(api) as wire:
        assert (await wire.ask(request()))[0] == 200
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(2000):
            wire.writer.write(request())
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)
        waiting = [c.transport.get_write_buffer_size() for c in api.server._http.connections if isinstance(c, connection.Connection)]  # type: ignore[union-attr]
        assert max(waiting) < 4 << 20
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert [(await wire.answer())[0] for _ in range(2000)] == [200] * 2000


async def test_the_heads_are_bounded(api: ApiServer) -> None:
    await write(api, "one")
    async with wired(api) as wire:
        for number in range(1100):
            assert (await wire.ask(request(MAP, f"X: {number}")))[0] == 200
    repeats = api.server._repeats
    assert repeats is not None and len(repeats._known) <= 1024
