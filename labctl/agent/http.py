"""A small HTTP/1.1 client on asyncio streams: kept-alive connections, chunked bodies, a deadline on everything.

Who calls it: client.py, which knows the API; probes.py, for one plain GET. It knows neither redirects nor proxies nor cookies.
A request on a kept connection that the server had closed meanwhile is sent once more on a new one (nothing of an answer had come).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass, field
from typing import AsyncIterator, Dict, List, Mapping, Optional, Tuple
from urllib.parse import urlsplit

from .deadlines import wait_for

KEPT_CONNECTIONS = 4
LINE_LIMIT_BYTES = 16 << 20
PIECE_BYTES = 256 << 10
INFORMATIONAL_MAX = 5  # as Go's client takes
KNOCK_S, KNOCK_MOST_S = 0.025, 0.5
"""How soon it is tried again whether a server that did not listen does. It costs a tenth of a millisecond, and ever fewer times a second."""
_NO_BODY = (204, 304)


class Unreachable(Exception):
    """No answer: refused, reset, timed out, or not HTTP."""


@dataclass
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used: bool = False

    def close(self) -> None:
        self.writer.close()


@dataclass
class Response:
    """`status` and `headers` (lower case) are there; the body is still on its way. Read it to the end, or `close`."""

    status: int
    headers: Mapping[str, str]
    connection: Connection
    pool: "List[Connection]" = field(default_factory=list)
    _done: bool = False
    _given_back: bool = False

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self.pieces()])

    async def pieces(self) -> AsyncIterator[bytes]:
        reader = self.connection.reader
        try:
            if self.status in _NO_BODY:
                pass
            elif "chunked" in self.headers.get("transfer-encoding", ""):
                async for piece in _chunks(reader):
                    yield piece
            elif "content-length" in self.headers:
                async for piece in _counted(reader, int(self.headers["content-length"])):
                    yield piece
            else:
                while True:
                    piece = await reader.read(PIECE_BYTES)
                    if not piece:
                        return  # the connection's end is the body's: not kept
                    yield piece
            self._done = True
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            raise Unreachable(f"the answer broke off: {error}") from error
        finally:
            self._give_back()

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield a watch's lines as they come."""
        rest = b""
        async for piece in self.pieces():
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                if line:
                    yield line

    def close(self) -> None:
        """Close the connection, unless the body has been read and somebody else may use it already."""
        if not self._given_back:
            self.connection.close()

    def _give_back(self) -> None:
        keep = self._done and self.headers.get("connection", "").lower() != "close" and len(self.pool) < KEPT_CONNECTIONS
        self._given_back = True
        if keep:
            self.pool.append(self.connection)
        else:
            self.connection.close()


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        line = await reader.readline()
        if not line:
            raise ConnectionAbortedError("the other side closed the connection")
        size = int(line.split(b";")[0], 16)
        if size == 0:
            while (await reader.readline()).strip():
                pass  # trailers
            return
        left = size
        while left:
            piece = await reader.read(min(left, PIECE_BYTES))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            yield piece
        await reader.readexactly(2)


async def _counted(reader: asyncio.StreamReader, left: int) -> AsyncIterator[bytes]:
    while left:
        piece = await reader.read(min(left, PIECE_BYTES))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
        yield piece


class Http:
    """One server. `context` with the client's certificate for https. Raises ValueError for an address that is none.

    `limit_bytes` bounds the head of an answer, and a line of it: what a pod's server sends must not fill the agent's memory.
    """

    def __init__(self, url: str, context: Optional[ssl.SSLContext] = None, *, limit_bytes: int = LINE_LIMIT_BYTES) -> None:
        parts = urlsplit(url)
        self._limit_bytes = limit_bytes
        self._host, self._port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        self._context = context if parts.scheme == "https" else None
        self._authority = parts.netloc
        self._kept: List[Connection] = []
        self._refused = False  # whether nobody listened at the last connection

    async def request(
        self, method: str, path: str, *, body: bytes = b"", headers: Optional[Mapping[str, str]] = None, timeout_s: float = 10.0
    ) -> Response:
        """Send a request and wait for the headers of its answer. Raises Unreachable."""
        try:
            return await wait_for(self._request(method, path, body, headers or {}), timeout_s, Response.close)
        except asyncio.TimeoutError:
            raise Unreachable(f"{method} {path}: no answer in {timeout_s:g} s") from None
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            raise Unreachable(f"{method} {path}: {error or type(error).__name__}") from error

    async def _request(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Response:
        said = {"Host": self._authority, **headers}
        head = [f"{method} {path} HTTP/1.1", *(f"{key}: {value}" for key, value in said.items())]
        if body or method in ("POST", "PUT", "PATCH"):
            head.append(f"Content-Length: {len(body)}")
        if any("\r" in line or "\n" in line for line in head):
            raise ValueError("a line break in the head of a request")
        message = "\r\n".join([*head, "", ""]).encode() + body
        while True:
            connection = self._kept.pop() if self._kept else await self._connect()
            try:
                connection.writer.write(message)
                await connection.writer.drain()
                status, found = await _head(connection.reader)
            except BaseException as error:
                connection.close()
                gone = isinstance(error, (ConnectionError, asyncio.IncompleteReadError)) and not getattr(error, "partial", b"")
                if connection.used and gone:
                    continue
                raise
            connection.used = True
            return Response(status, found, connection, self._kept)

    async def pause(self, seconds: float) -> None:
        """Wait so long before another try; less if nobody listened at the last one, and somebody does now."""
        if not self._refused:
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(asyncio.TimeoutError):
            await wait_for(self._until_listening(), seconds)

    async def _until_listening(self) -> None:
        between_s = KNOCK_S
        while self._refused:
            await asyncio.sleep(between_s)
            between_s = min(KNOCK_MOST_S, between_s * 1.1)
            with contextlib.closing(socket.socket()) as knocking:
                knocking.setblocking(False)
                with contextlib.suppress(OSError):  # still refused, or worse: then the next try says what is wrong
                    await asyncio.get_running_loop().sock_connect(knocking, (self._host, self._port))
                    self._refused = False

    async def _connect(self) -> Connection:
        try:
            reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._context, limit=self._limit_bytes)
        except OSError as error:
            self._refused = isinstance(error, ConnectionRefusedError)
            raise
        self._refused = False
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 20_000)):
            if hasattr(socket, option):  # a watch says nothing for minutes: the kernel asks whether the other end is there
                raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        return Connection(reader, writer)

    def close(self) -> None:
        while self._kept:
            self._kept.pop().close()


async def _head(reader: asyncio.StreamReader) -> Tuple[int, Dict[str, str]]:
    for _ in range(INFORMATIONAL_MAX + 1):
        block = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, _, rest = block[0].partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(f"not HTTP: {block[0][:80]!r}")
        status = int(rest.split(" ")[0])
        if not 100 <= status < 200 or status == 101:
            headers = (line.partition(":") for line in block[1:] if line)
            return status, {key.strip().lower(): value.strip() for key, _, value in headers}
    raise ValueError("too many 1xx informational responses")


def client_context(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(certificate, key)
    return context
