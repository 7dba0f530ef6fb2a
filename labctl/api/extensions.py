"""Extensions are the paths under `/labctl/v1`, through which labctl's own commands ask for what Kubernetes' API does not have. `master` registers the handlers.

    extensions.add("GET", "/labctl/v1/why/{resource}/{namespace}/{name}", why)

A handler is `async (ExtensionRequest) -> answer`. The answer is a value that becomes JSON, a `File`, a `Text`, or an async iterator of bytes (a stream).
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


class ExtensionRequest(msgspec.Struct, frozen=True):
    """A request to an extension. `params` are the values of the path's variables; `body` is as it was sent."""

    user: User
    params: Mapping[str, str]
    query: Query
    body: bytes = b""


class File(msgspec.Struct, frozen=True):
    """An answer that is a whole file; the kernel sends it."""

    path: Path
    content_type: str = "application/octet-stream"


class Text(msgspec.Struct, frozen=True):
    """An answer of plain text."""

    text: str


ExtensionHandler = Callable[[ExtensionRequest], Awaitable[Any]]


class Extensions:
    """The registered routes. They are few, so a request is compared with one after another."""

    def __init__(self) -> None:
        self._routes: list[tuple[str, list[str], ExtensionHandler]] = []

    def add(self, method: str, pattern: str, handler: ExtensionHandler) -> None:
        assert pattern.startswith(ROOT + "/"), f"{pattern} is not below {ROOT}"
        self._routes.append((method, pattern.split("/"), handler))

    async def serve(self, call: Call) -> web.StreamResponse:
        """Answers one request. Raises 404 if the path is not registered, and 405 if only its method is not."""
        handler, params = self._find(call.method, call.path)
        body = await call.body() if call.request.can_read_body else b""
        answer = await handler(ExtensionRequest(call.user, params, call.query, body))
        if isinstance(answer, File):
            return web.FileResponse(answer.path, headers={"Content-Type": answer.content_type})
        if isinstance(answer, Text):
            return text(answer.text)
        if isinstance(answer, AsyncIterator):
            return await _stream(call, answer)
        return await call.answer(_encode(answer))

    def _find(self, method: str, path: str) -> tuple[ExtensionHandler, dict[str, str]]:
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
