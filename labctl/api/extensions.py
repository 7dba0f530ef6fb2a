"""What labctl's own commands ask of the master beyond Kubernetes' API, under `/labctl/v1`: a small seam that `master` fills.

    extensions.add("GET", "/labctl/v1/why/{resource}/{namespace}/{name}", why)

A handler is `async (Ask) -> answer`: anything that is JSON, or a `File` (sent by the kernel), or a `Text`, or an async iterator of bytes (a stream).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
from aiohttp import web

from labctl.api import status
from labctl.api.answer import text
from labctl.api.call import Call
from labctl.api.query import Query
from labctl.resources.service import User

_encode = msgspec.json.Encoder().encode
ROOT = "/labctl/v1"


class Ask(msgspec.Struct, frozen=True):
    """One request of an extension: `params` are the path's, `body` as it was sent."""

    user: User
    params: Mapping[str, str]
    query: Query
    body: bytes = b""


class File(msgspec.Struct, frozen=True):
    """A file, whole."""

    path: Path
    content_type: str = "application/octet-stream"


class Text(msgspec.Struct, frozen=True):
    text: str


Answering = Callable[[Ask], Awaitable[Any]]


class Extensions:
    """Routes by method and number of path segments; small enough to be searched one by one."""

    def __init__(self) -> None:
        self._routes: list[tuple[str, list[str], Answering]] = []

    def add(self, method: str, pattern: str, handler: Answering) -> None:
        assert pattern.startswith(ROOT + "/"), f"{pattern} is not below {ROOT}"
        self._routes.append((method, pattern.split("/"), handler))

    async def serve(self, call: Call) -> web.StreamResponse:
        """Raises 404 for a path that nobody registered, 405 for a method."""
        handler, params = self._find(call.method, call.path)
        body = await call.body() if call.request.can_read_body else b""
        answered = await handler(Ask(call.user, params, call.query, body))
        if isinstance(answered, File):
            return web.FileResponse(answered.path, headers={"Content-Type": answered.content_type})
        if isinstance(answered, Text):
            return text(answered.text)
        if isinstance(answered, AsyncIterator):
            return await _stream(call, answered)
        return await call.answer(_encode(answered))

    def _find(self, method: str, path: str) -> tuple[Answering, dict[str, str]]:
        segments = [unquote(segment) for segment in path.split("/")]
        known = False
        for wanted, pattern, handler in self._routes:
            params = _match(pattern, segments)
            if params is None:
                continue
            if wanted == method:
                return handler, params
            known = True
        raise status.method_not_allowed() if known else status.unknown_path()


def _match(pattern: list[str], segments: list[str]) -> dict[str, str] | None:
    if len(pattern) != len(segments):
        return None
    params = {}
    for part, segment in zip(pattern, segments, strict=True):
        if part.startswith("{"):
            params[part[1:-1]] = segment
        elif part != segment:
            return None
    return params


async def _stream(call: Call, chunks: AsyncIterator[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    await response.prepare(call.request)
    async with aclosing(chunks):  # type: ignore[type-var]
        with call.connection.streaming():
            async for chunk in chunks:
                await response.write(chunk)
    return response
