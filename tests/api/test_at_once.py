"""The GET of an object is answered where it arrives, and then it says exactly what aiohttp's way says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from labctl.api import connection
from tests.inprocess import ApiServer

MAP = "/api/v1/namespaces/default/configmaps/m"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
REQUESTS = [
    ("GET", MAP, "1.1", {}),
    ("GET", MAP, "1.0", {"Connection": "keep-alive"}),
    ("GET", MAP + "?pretty=1", "1.1", {}),
    ("GET", MAP, "1.1", {"User-Agent": "curl/8"}),
    ("GET", MAP, "1.1", {"Accept": TABLE}),
    ("GET", MAP, "1.1", {"Accept": "application/yaml"}),
    ("GET", MAP, "1.1", {"Accept": "text/html"}),
    ("GET", MAP, "1.1", {"Accept-Encoding": "gzip"}),
    ("GET", MAP, "1.1", {"Impersonate-User": "somebody"}),
    ("GET", MAP + "/status", "1.1", {}),
    ("GET", MAP.replace("maps/m", "maps/none"), "1.1", {}),
    ("GET", MAP.replace("maps/m", "maps/big"), "1.1", {"Accept-Encoding": "gzip"}),
    ("GET", MAP.replace("maps/m", "maps/big"), "1.1", {}),
    ("GET", "/api/v1/pods/x", "1.1", {}),
    ("GET", "/api/v1/nothings/x", "1.1", {}),
    ("HEAD", MAP, "1.1", {}),
]


@asynccontextmanager
async def connected(api: ApiServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=api.tls(api.authority.admin()))
    try:
        yield reader, writer
    finally:
        writer.close()


def head(method: str, path: str, version: str = "1.1", headers: dict[str, str] | None = None) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    return f"{method} {path} HTTP/{version}\r\nHost: localhost\r\n{lines}\r\n".encode()


async def answer(reader: asyncio.StreamReader, method: str = "GET") -> bytes:
    async with asyncio.timeout(10):
        said = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"Content-Length: (\d+)", said)[1])  # type: ignore[index]
        return said + (b"" if method == "HEAD" else await reader.readexactly(length))


@pytest.fixture
async def there(api: ApiServer) -> ApiServer:
    for name, size in (("m", 10), ("big", 300_000)):
        body = {"metadata": {"name": name}, "data": {"k": "v" * size}}
        await api.resources.create(api.resources.registry["configmaps"], "default", body)
    return api


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each request that could be was answered at once."""
    answered: list[bool] = []
    usual: Callable[..., bool] = connection.Connection._answer_at_once

    def noted(self: connection.Connection, message: object, payload: object) -> bool:
        answered.append(usual(self, message, payload))
        return answered[-1]

    monkeypatch.setattr(connection.Connection, "_answer_at_once", noted)
    return answered


@pytest.mark.parametrize(("method", "path", "version", "headers"), REQUESTS)
async def test_both_ways_answer_the_same(
    there: ApiServer, monkeypatch: pytest.MonkeyPatch, method: str, path: str, version: str, headers: dict[str, str]
) -> None:
    answers = []
    for possible in (True, False):
        monkeypatch.setattr(connection, "_CAN_ANSWER_AT_ONCE", possible)
        async with connected(there) as (reader, writer):
            for _ in range(2):
                writer.write(head(method, path, version, headers))
                answers.append(re.sub(rb'"age":"[^"]*"', b"", await answer(reader, method)))
    assert len(set(answers)) == 1


async def test_the_second_get_of_a_connection_is_answered_at_once(there: ApiServer, at_once: list[bool]) -> None:
    async with connected(there) as (reader, writer):
        for _ in range(3):
            writer.write(head("GET", MAP))
            await answer(reader)
        assert at_once[-2:] == [True, True], "the first starts the connection's timer"
        writer.write(head("GET", MAP.replace("maps/m", "maps/big")))
        await answer(reader)
        writer.write(head("GET", MAP))
        await answer(reader)
    assert at_once[-2:] == [False, True], "a large one waits until it is read"


async def test_requests_in_pieces_and_several_at_once_are_answered_in_order(there: ApiServer) -> None:
    async with connected(there) as (reader, writer):
        writer.write(head("GET", MAP))
        wanted = await answer(reader)
        whole = head("GET", MAP)
        for cut in (2, 10, len(whole) - 1):
            writer.write(whole[:cut])
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(whole[cut:])
            assert await answer(reader) == wanted
        writer.write(whole + head("GET", MAP.replace("maps/m", "maps/none")) + whole)
        answers = [await answer(reader) for _ in range(3)]
        assert [said.split(b" ", 2)[1] for said in answers] == [b"200", b"404", b"200"]
