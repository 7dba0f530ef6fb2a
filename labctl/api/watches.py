"""Watches over HTTP: a line per event, chunked, or a text frame per event on a WebSocket.

What flows: `resources.watch` hands out the events that became visible together; they go out in one write. It also makes the bookmarks.
A watch ends when its time is up, its client goes, it lags behind the store's bound, or the server stops: always at once, and always unregistered.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.client_exceptions import ClientConnectionResetError

from labctl.api import status
from labctl.api.call import Call
from labctl.api.shapes import Shape
from labctl.errors import ApiError, Compacted
from labctl.resources.resources import Resources
from labctl.resources.service import ListOptions
from labctl.resources.verbs.watch import Watching

_encode = msgspec.json.Encoder().encode


async def serve(call: Call, resources: Resources, shape: Shape, options: ListOptions) -> web.StreamResponse:
    """Answer with everything that changes from `options.resource_version` on."""
    timeout_s = _timeout_s(call)
    events, refused = _open(call, resources, options)
    sink: _Lines | _Frames = _Frames(call) if call.is_websocket else _Lines(call, shape)
    await sink.open()
    if refused is not None:
        await sink.send(_error_line(refused))
        return await sink.end()
    assert events is not None
    call.connection.stream = asyncio.current_task()
    try:
        async with asyncio.timeout(timeout_s), aclosing(events):
            await _pump(events, shape, sink)
    except TimeoutError:
        pass
    except asyncio.CancelledError:
        if not call.connection.stopping:
            raise
    except ClientConnectionResetError:
        pass
    finally:
        call.connection.stream = None
    return await sink.end()


async def _pump(events: Watching, shape: Shape, sink: _Lines | _Frames) -> None:
    try:
        async for batch in events:
            await sink.send(b"".join([shape.line(event) for event in batch]) if len(batch) > 1 else shape.line(batch[0]))
    except (ApiError, Compacted) as error:
        await sink.send(_error_line(status.from_exception(error)))


def _open(call: Call, resources: Resources, options: ListOptions) -> tuple[Watching | None, ApiError | None]:
    """Registered here, before the head is sent, so that nothing is missed. "Too old" is told inside the stream, all else as a status."""
    initial = call.query.flag("sendInitialEvents") if "sendInitialEvents" in call.query else None
    try:
        bookmarks = call.query.flag("allowWatchBookmarks")
        return resources.watch(call.kind, call.target.namespace, options, bookmarks, initial), None
    except (ApiError, Compacted) as error:
        refused = status.from_exception(error)
        if refused.code != 410:
            raise refused from error
        return None, refused


def _timeout_s(call: Call) -> float:
    asked = call.query.integer("timeoutSeconds")
    if asked:
        return float(asked)
    return call.settings.watch_timeout_s * (1 + random.random())


def _error_line(error: ApiError) -> bytes:
    return b'{"type":"ERROR","object":%s}\n' % _encode(status.of(error))


class _Lines:
    """Newline-separated JSON in chunks."""

    def __init__(self, call: Call, shape: Shape) -> None:
        headers = {"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        if shape.shape:
            headers["Content-Type"] = f"application/json;as={shape.shape};g=meta.k8s.io;v=v1"
        self._request = call.request
        self._response = web.StreamResponse(headers=headers)

    async def open(self) -> None:
        await self._response.prepare(self._request)

    async def send(self, lines: bytes) -> None:
        await self._response.write(lines)

    async def end(self) -> web.StreamResponse:
        return self._response


class _Frames:
    """A WebSocket: one text frame per event."""

    def __init__(self, call: Call) -> None:
        self._request = call.request
        self._socket = web.WebSocketResponse(protocols=("base64.binary.k8s.io", "binary.k8s.io"), autoping=True)
        self._reader: asyncio.Task[Any] | None = None
        self._call = call

    async def open(self) -> None:
        await self._socket.prepare(self._request)
        self._reader = asyncio.create_task(self._read_until_closed())

    async def send(self, lines: bytes) -> None:
        for line in lines.splitlines():
            await self._socket.send_str(line.decode())

    async def end(self) -> web.StreamResponse:
        if self._reader is not None:
            self._reader.cancel()
        await self._socket.close()
        return self._socket

    async def _read_until_closed(self) -> None:
        """What a watcher sends means nothing, but its close frame ends the watch."""
        async for _message in self._socket:
            pass
        if self._call.connection.stream is not None:
            self._call.connection.stream.cancel()
