"""This module serves watches over HTTP: one line for each event in a chunked answer, or one text frame for each event on a WebSocket.

`resources.watch` delivers the events that became visible together, and they are sent in one write. It also makes the bookmarks.
A watch ends when its time is over, its client disconnects, it lags behind more than the store allows, or the server stops. It then ends at once, in the store too.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
from aiohttp import ClientConnectionResetError, HttpVersion11, web

from labctl.api import status, websockets
from labctl.api.answer import DRAIN_ABOVE_BYTES
from labctl.api.call import Call
from labctl.api.pieces import PIECE_BYTES
from labctl.api.shapes import Shape
from labctl.errors import ApiError, Compacted
from labctl.resources.resources import Resources
from labctl.resources.service import ListOptions, WatchEvent
from labctl.resources.verbs.watch import ObjectWatch

_encode = msgspec.json.Encoder().encode


async def serve(
    call: Call, resources: Resources, shape: Shape, options: ListOptions, made: Sequence[WatchEvent] = ()
) -> web.StreamResponse:
    """Answers with every change after `options.resource_version`. `made` are events of objects that no store holds: they come first if the watch begins
    with what there is."""
    timeout_s = _timeout_s(call)
    sink: _Lines | _Frames = _Frames(call) if call.is_websocket else _Lines(call, shape)
    events, refused = _open(call, resources, options)
    try:
        await sink.open()
        if events is None:
            assert refused is not None, "a watch that is not open was refused"
            await sink.send(_error_line(refused))
            return await sink.end()
        with call.connection.streaming():
            async with asyncio.timeout(timeout_s):
                if made and _begins_with_all(call, options):
                    await _send(sink, shape, made)
                await _pump(events, shape, sink)
    except TimeoutError:
        pass
    except asyncio.CancelledError:
        if not call.connection.stopping:
            raise
    except ClientConnectionResetError:
        pass
    finally:
        if events is not None:
            await events.aclose()
    return await sink.end()


async def _pump(events: ObjectWatch, shape: Shape, sink: _Lines | _Frames) -> None:
    """Sends events until the watch ends. While the client keeps up they are sent at once, without waking this task: with a hundred watchers, each write
    would wake a hundred tasks."""
    if isinstance(sink, _Lines):
        events.listen(partial(_send_at_once, events, shape, sink))
    try:
        async for batch in events:
            await _send(sink, shape, batch)
    except (ApiError, Compacted) as error:
        await sink.send(_error_line(status.from_exception(error)))


def _send_at_once(events: ObjectWatch, shape: Shape, sink: _Lines) -> bool:
    """Sends what waits. Returns False if the client does not keep up, or is gone: then the watch's task has to see to it."""
    if not sink.ready:
        return False
    batch = events.take()
    if batch:
        sink.write(_lines(shape, batch))
    return True


async def _send(sink: _Lines | _Frames, shape: Shape, batch: Sequence[WatchEvent]) -> None:
    """Sends many events in pieces, and waits for the client after each: what waits for a client that reads nothing is a piece, not a whole collection."""
    for piece in _pieces(shape, batch):
        await sink.send(piece)


def _pieces(shape: Shape, batch: Sequence[WatchEvent]) -> Iterator[bytes]:
    lines: list[bytes] = []
    size = 0
    for event in batch:
        lines.append(shape.line(event))
        size += len(lines[-1])
        if size >= PIECE_BYTES:
            yield b"".join(lines)
            lines.clear()
            size = 0
    if lines:
        yield b"".join(lines)


def _lines(shape: Shape, batch: Sequence[WatchEvent]) -> bytes:
    return b"".join([shape.line(event) for event in batch]) if len(batch) > 1 else shape.line(batch[0])


def _open(call: Call, resources: Resources, options: ListOptions) -> tuple[ObjectWatch | None, ApiError | None]:
    """Begins the watch in the store, before the head is sent, so that no event is missed. "Too old" is an event of the stream; other errors are a Status."""
    initial = call.query.flag("sendInitialEvents") if "sendInitialEvents" in call.query else None
    try:
        bookmarks = call.query.flag("allowWatchBookmarks")
        return resources.watch(call.kind, call.target.namespace, options, bookmarks, initial), None
    except (ApiError, Compacted) as error:
        refused = status.from_exception(error)
        if refused.code != 410:
            raise refused from error
        return None, refused


def _begins_with_all(call: Call, options: ListOptions) -> bool:
    if "sendInitialEvents" in call.query:
        return call.query.flag("sendInitialEvents")
    return options.resource_version in ("", "0")


def _timeout_s(call: Call) -> float:
    timeout_s = call.query.integer("timeoutSeconds")
    if timeout_s:
        return float(timeout_s)
    return call.settings.watch_timeout_s * (1 + random.random())


def _error_line(error: ApiError) -> bytes:
    return b'{"type":"ERROR","object":%s}\n' % _encode(status.of(error))


class _Lines:
    """Sends JSON lines in chunks, straight to the connection: with a hundred watchers, each write of an object is sent a hundred times."""

    def __init__(self, call: Call, shape: Shape) -> None:
        headers = {"Content-Type": shape.content_type, "Cache-Control": "no-cache, private"}
        self._request = call.request
        self._response = web.StreamResponse(headers=headers)
        self._chunked = call.request.version == HttpVersion11
        self._stall_s = call.settings.watch_stall_s

    async def open(self) -> None:
        await self._response.prepare(self._request)

    async def send(self, lines: bytes) -> None:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("the watcher is gone")
        self.write(lines)
        if transport.get_write_buffer_size() > DRAIN_ABOVE_BYTES:
            await self._drain(transport)

    @property
    def ready(self) -> bool:
        """True if the client is there and has not much left to read."""
        transport = self._request.transport
        return transport is not None and not transport.is_closing() and transport.get_write_buffer_size() <= DRAIN_ABOVE_BYTES

    def write(self, lines: bytes) -> None:
        assert self._request.transport is not None, "its caller looked"
        self._request.transport.write(b"%x\r\n%b\r\n" % (len(lines), lines) if self._chunked else lines)

    async def _drain(self, transport: asyncio.WriteTransport) -> None:
        """Waits for a slow client. This stops only its own watch, until the store's bound or `watch_stall_s` ends it."""
        try:
            async with asyncio.timeout(self._stall_s):
                await self._request.writer.drain()
        except TimeoutError:
            transport.abort()
            raise ClientConnectionResetError("the watcher takes nothing") from None

    async def end(self) -> web.StreamResponse:
        return self._response


class _Frames:
    """Sends one text frame for each event on a WebSocket."""

    def __init__(self, call: Call) -> None:
        self._request = call.request
        self._socket = websockets.new(("base64.binary.k8s.io", "binary.k8s.io"))
        self._reader: asyncio.Task[Any] | None = None
        self._call = call

    async def open(self) -> None:
        await self._socket.prepare(self._request)
        self._reader = asyncio.create_task(self._read_until_closed())

    async def send(self, lines: bytes) -> None:
        """Waits for a slow client as `_Lines` does."""
        try:
            async with asyncio.timeout(self._call.settings.watch_stall_s):
                for line in lines.splitlines():
                    await self._socket.send_str(line.decode())
        except TimeoutError:
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ClientConnectionResetError("the watcher takes nothing") from None

    async def end(self) -> web.StreamResponse:
        if self._reader is not None:
            self._reader.cancel()
        await self._socket.close()
        return self._socket

    async def _read_until_closed(self) -> None:
        """Ignores what the client sends, and returns when it closes the WebSocket, which ends the watch."""
        async for _message in websockets.incoming(self._socket):
            pass
        self._call.connection.end_stream()
