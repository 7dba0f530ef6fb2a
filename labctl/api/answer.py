"""This module sends a complete answer as bytes: one head, one body, one write.

aiohttp's own Response spends 15 us on the headers of each answer, a fifth of the time that a GET of a pod may take here. So a CompleteResponse is a
StreamResponse that writes its prepared head and body itself. Streams (watch, logs, proxy) use aiohttp's StreamResponse unchanged.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from http import HTTPStatus

import msgspec
import yaml
from aiohttp import HttpVersion11, web

from labctl.api.negotiate import JSON
from labctl.api.pieces import PIECE_BYTES

DRAIN_ABOVE_BYTES = 64 << 10
LARGE_BYTES = 2 * PIECE_BYTES  # an answer above this is sent in pieces, and counts as long as it waits for its reader
_GZIP_WINDOW = 31  # this value makes zlib write a gzip header
_YAML_AT_ONCE_BYTES = 32 << 10
_yaml_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="yaml-answers")
_COMMON = b"Cache-Control: no-cache, private\r\nX-Content-Type-Options: nosniff\r\n"
NOT_FOUND = "404 page not found\n"  # the answer of a real server for a path that it does not serve at all
_PHRASES = {int(each): each.phrase for each in HTTPStatus}
"""A code of a webhook's own has no phrase, and needs none (RFC 9112)."""
_PRETTY_AGENTS = ("curl", "Wget", "Mozilla/5.0")


class CompleteResponse(web.StreamResponse):
    """A complete answer. `extra` holds more header lines, each with its CRLF."""

    def __init__(self, body: bytes, status: int = 200, content_type: str = JSON, extra: bytes = b"") -> None:
        super().__init__(status=status)
        self.whole_body = body
        self._type = content_type
        self._extra = extra

    async def prepare(self, request: web.BaseRequest) -> None:
        self._keep_alive = request.keep_alive
        transport = request.transport
        if transport is None or self._eof_sent:
            return
        if transport.is_closing():
            raise ConnectionResetError("the client has disconnected")  # the connection ends with it, and what else was asked on it
        self._eof_sent = True
        head = _head(self.status, self._type, request.version == HttpVersion11, self._keep_alive)
        body = self.whole_body
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        if request.method == "HEAD":
            body = b""
        if len(body) > LARGE_BYTES:
            with request.protocol.holding(len(body)):  # type: ignore[attr-defined]  # it is a Connection
                await _send(request, (head + self._extra + length, body))
        else:
            transport.write(b"".join((head, self._extra, length, body)))
            if transport.get_write_buffer_size() > DRAIN_ABOVE_BYTES:  # its client reads more slowly than it asks
                await _drain(request)
        if self._keep_alive:
            request.protocol.answered(request, self.status)  # type: ignore[attr-defined]  # it is a Connection

    async def write_eof(self, data: bytes = b"") -> None:
        assert not data, "a whole answer has its body already"


class PiecewiseResponse(web.StreamResponse):
    """A complete answer whose body is sent piece by piece.

    A list of a thousand pods is over a megabyte. Each copy of it, and its encryption as one, leaves the processor's caches; a piece stays in them, and the
    client can read the first one while the next is encrypted.
    """

    def __init__(self, pieces: Iterable[bytes], size: int, extra: bytes = b"", content_type: str = JSON) -> None:
        super().__init__(status=200)
        self._pieces = pieces
        self._size = size
        self._extra = extra
        self._type = content_type

    async def prepare(self, request: web.BaseRequest) -> None:
        self._keep_alive = request.keep_alive
        if request.transport is None or self._eof_sent:
            return
        self._eof_sent = True
        length = b"Content-Length: %d\r\n\r\n" % self._size
        request.transport.write(head_of(request, self._type, keep_alive=bool(self._keep_alive)) + self._extra + length)
        await _send(request, self._pieces if request.method != "HEAD" else ())
        if self._keep_alive:
            request.protocol.answered(request, self.status)  # type: ignore[attr-defined]  # it is a Connection

    async def write_eof(self, data: bytes = b"") -> None:
        assert not data, "a whole answer has its body already"


async def _send(request: web.BaseRequest, pieces: Iterable[bytes]) -> None:
    """Sends pieces as fast as the client reads. What waits for it in between is little, whatever their size."""
    for part in (part for piece in pieces for part in _cut(piece)):
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("the client has disconnected")
        request.transport.write(part)
        if request.transport.get_write_buffer_size() > DRAIN_ABOVE_BYTES:
            await _drain(request)
        await asyncio.sleep(0)  # a connection that was lost is known then


def _cut(piece: bytes) -> Iterator[bytes | memoryview]:
    if len(piece) <= LARGE_BYTES:
        yield piece
        return
    view = memoryview(piece)
    for start in range(0, len(piece), PIECE_BYTES):
        yield view[start : start + PIECE_BYTES]


async def _drain(request: web.BaseRequest) -> None:
    await request.protocol.drained()  # type: ignore[attr-defined]  # it is a Connection


class NoResponse(web.StreamResponse):
    """An answer that sends nothing, for a connection that is closed already: aiohttp demands an answer from every handler."""

    async def prepare(self, request: web.BaseRequest) -> None:
        self._keep_alive = False

    async def write_eof(self, data: bytes = b"") -> None:
        pass


@lru_cache(maxsize=256)
def _head(status: int, content_type: str, http11: bool, keep_alive: bool) -> bytes:
    line = f"HTTP/1.{1 if http11 else 0} {status} {_PHRASES.get(status, '')}\r\n"
    connection = "" if http11 and keep_alive else f"Connection: {'keep-alive' if keep_alive else 'close'}\r\n"
    return f"{line}Content-Type: {content_type}\r\n{connection}".encode() + _COMMON


def head_of(request: web.BaseRequest, content_type: str = JSON, *, keep_alive: bool) -> bytes:
    """Returns the head of a successful answer to this request, up to its Content-Length."""
    return _head(200, content_type, request.version == HttpVersion11, keep_alive)


def header_lines(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


def warning_lines(warnings: Iterable[str]) -> bytes:
    """Returns a header line for each warning (RFC 7234): `Warning: 299 - "text"`. kubectl prints them."""
    return "".join(f"Warning: {warning(text)}\r\n" for text in warnings).encode()


def warning(text: str) -> str:
    """Returns the value of a Warning header."""
    clean = "".join(c if c.isprintable() else " " for c in text).replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{clean}"'


def text(body: str, status: int = 200) -> CompleteResponse:
    return CompleteResponse(body.encode(), status, "text/plain; charset=utf-8")


def wants_indented(pretty: str | None, user_agent: str) -> bool:
    """True if `?pretty` asks for indented JSON, or, without it, if the program is one that people read with: curl, wget, a browser."""
    if pretty is not None:
        return pretty not in ("0", "false")
    return user_agent.startswith(_PRETTY_AGENTS)


def as_json(body: bytes, pretty: str | None, user_agent: str) -> bytes:
    """Returns compact JSON with a newline at its end, or indented JSON without one, as a real server's encoder does."""
    return indented(body) if wants_indented(pretty, user_agent) else body + b"\n"


def indented(body: bytes) -> bytes:
    return msgspec.json.format(body, indent=2)


async def as_yaml(body: bytes) -> bytes:
    """Returns JSON as YAML. A list of some megabytes takes seconds: such answers are made in a thread of their own, one after the other."""
    if len(body) <= _YAML_AT_ONCE_BYTES:
        return _as_yaml(body)
    return await asyncio.get_running_loop().run_in_executor(_yaml_thread, _as_yaml, body)


def _as_yaml(body: bytes) -> bytes:
    return yaml.dump(msgspec.json.decode(body), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False).encode()


async def gzipped(pieces: Iterable[bytes]) -> bytes:
    """Compresses in a thread, because two megabytes take 20 ms and zlib does not hold the interpreter meanwhile."""
    return await asyncio.get_running_loop().run_in_executor(None, _gzip, pieces)


def _gzip(pieces: Iterable[bytes]) -> bytes:
    compressor = zlib.compressobj(level=1, wbits=_GZIP_WINDOW)
    return b"".join((*(compressor.compress(piece) for piece in pieces), compressor.flush()))


GZIP_LINES = b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"
