"""Answers as bytes: one head, one body, one write.

aiohttp's own Response costs 15 us a request in header bookkeeping, a fifth of what a GET of a pod may take here; so a whole answer is a StreamResponse
that writes its prepared head and body itself. Streams (watch, logs, proxy) are aiohttp's StreamResponse as it comes.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from http import HTTPStatus

import msgspec
import yaml
from aiohttp import HttpVersion11, web

from labctl.api.negotiate import JSON

_DRAIN_ABOVE = 64 << 10
_GZIP_WINDOW = 31  # zlib's word for "with a gzip header"
_COMMON = b"Cache-Control: no-cache, private\r\nX-Content-Type-Options: nosniff\r\n"
NOT_FOUND = "404 page not found\n"  # where nothing listens at all, the real server says so in plain text
_PRETTY_AGENTS = ("curl", "Wget", "Mozilla/5.0")


class Whole(web.StreamResponse):
    """A complete answer. `extra` is whole header lines, each with its CRLF."""

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
        self._eof_sent = True
        plain = request.version == HttpVersion11
        head = _head(self.status, self._type, plain, self._keep_alive)
        body = self.whole_body
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        if request.method == "HEAD":
            body = b""
        transport.write(b"".join((head, self._extra, length, body)))
        if len(body) > _DRAIN_ABOVE:
            await request.writer.drain()

    async def write_eof(self, data: bytes = b"") -> None:
        assert not data, "a whole answer has its body already"


class Nothing(web.StreamResponse):
    """For a connection that is closed already: aiohttp wants some answer from every handler."""

    async def prepare(self, request: web.BaseRequest) -> None:
        self._keep_alive = False

    async def write_eof(self, data: bytes = b"") -> None:
        pass


@lru_cache(maxsize=256)
def _head(status: int, content_type: str, http11: bool, keep_alive: bool) -> bytes:
    line = f"HTTP/1.{1 if http11 else 0} {status} {HTTPStatus(status).phrase}\r\n"
    connection = "" if http11 and keep_alive else f"Connection: {'keep-alive' if keep_alive else 'close'}\r\n"
    return f"{line}Content-Type: {content_type}\r\n{connection}".encode() + _COMMON


def header_lines(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


def warning_lines(warnings: Iterable[str]) -> bytes:
    """RFC 7234 warnings, as kubectl prints them: `Warning: 299 - "text"`."""
    lines = []
    for text in warnings:
        clean = "".join(c if c.isprintable() else " " for c in text).replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'Warning: 299 - "{clean}"\r\n')
    return "".join(lines).encode()


def text(body: str, status: int = 200) -> Whole:
    return Whole(body.encode(), status, "text/plain; charset=utf-8")


def is_for_eyes(pretty: str | None, user_agent: str) -> bool:
    """Indented where `?pretty` asks for it, or where a person is likely to look."""
    if pretty is not None:
        return pretty not in ("0", "false")
    return user_agent.startswith(_PRETTY_AGENTS)


def as_json(body: bytes, pretty: str | None, user_agent: str) -> bytes:
    """Compact JSON ends with a newline, indented JSON with none: so a real server's encoder writes them."""
    return indented(body) if is_for_eyes(pretty, user_agent) else body + b"\n"


def indented(body: bytes) -> bytes:
    return msgspec.json.format(body, indent=2)


def as_yaml(body: bytes) -> bytes:
    return yaml.dump(msgspec.json.decode(body), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False).encode()


async def gzipped(body: bytes) -> bytes:
    """In a thread: zlib lets go of the interpreter, and two megabytes take 20 ms."""
    return await asyncio.get_running_loop().run_in_executor(None, _gzip, body)


def _gzip(body: bytes) -> bytes:
    compressor = zlib.compressobj(level=1, wbits=_GZIP_WINDOW)
    return compressor.compress(body) + compressor.flush()


GZIP_LINES = b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"
