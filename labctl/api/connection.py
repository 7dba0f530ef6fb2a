"""aiohttp's server, with four things of our own for each connection: who it is, what must end with it, bytes that are no HTTP any more (SPDY), and a short
way for what never waits.

aiohttp doesn't cancel a handler when its client goes: a hundred forgotten watches would be fed for ever. What a handler does within `streaming()` is
cancelled the moment the connection is lost, or the server stops. Handlers that write objects are left alone: what was begun is finished.

aiohttp hands each request to a task of its own, three turns of the loop away: a third of what the GET of an object costs. Such a GET waits for nothing, so
its handler is run to its end where the request arrives. Whatever is not exactly that (more than one request, a handler that waits after all) goes
aiohttp's way, with the same handler. The attributes of aiohttp's that this needs are private: where one is missing, everything goes that way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD

from labctl.api import identity
from labctl.api.answer import Nothing, Whole
from labctl.api.negotiate import JSON
from labctl.api.status import bad_request, encoded
from labctl.resources.service import User

_TAKEN_BYTES = 128 << 10  # half of what is read ahead of who reads it
_NEEDED = ("_waiter", "_messages", "_parser", "_keepalive_handle", "_next_keepalive_close_time", "_keepalive_timeout")
_CAN_ANSWER_AT_ONCE = all(hasattr(web.RequestHandler, name) for name in _NEEDED)  # they are slots
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Connection(web.RequestHandler):
    __slots__ = ("_stream", "_taken", "user")

    def __init__(self, manager: web.Server, **settings: Any) -> None:
        super().__init__(manager, **settings)
        self.user: User | None = None
        self._stream: asyncio.Task[Any] | None = None
        self._taken: asyncio.StreamReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.user = identity.of_transport(transport)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._taken is not None:
            self._taken.feed_data(data)
            return
        waiter = self._waiter if _CAN_ANSWER_AT_ONCE else None
        if waiter is None or waiter.done() or self._messages or not data.startswith(b"GET "):
            super().data_received(data)
            return
        self._waiter = None  # so that aiohttp queues what it parses and wakes nobody
        try:
            super().data_received(data)
        finally:
            self._waiter = waiter
        if self._messages and not (len(self._messages) == 1 and self._answer_at_once(*self._messages[0])) and not waiter.done():
            waiter.set_result(None)

    def take_over(self) -> asyncio.StreamReader:
        """From now on what the client sends is no HTTP: it comes out of the reader, whose bound is the client's flow control."""
        assert self.transport is not None
        self._taken = asyncio.StreamReader(limit=_TAKEN_BYTES)
        self._taken.set_transport(self.transport)
        return self._taken

    def _answer_at_once(self, message: Any, payload: Any) -> bool:
        """Answer the only request that is there, if its handler waits for nothing. The first of a connection goes aiohttp's way, which starts its timer."""
        manager = self._manager
        assert isinstance(manager, HttpServer)
        usual = isinstance(message, RawRequestMessage) and not (message.should_close or message.upgrade)
        if not usual or payload is not EMPTY_PAYLOAD or self._keepalive_handle is None or not manager.never_waits(message.path):
            return False
        request = manager.request_of(message, payload, self, StreamWriter(self, self._loop), self._task_handler)
        handling = manager.request_handler(request)
        try:
            handling.send(None)  # type: ignore[attr-defined]
        except StopIteration as done:
            response = done.value
        else:
            handling.close()  # type: ignore[attr-defined]
            return False
        if not isinstance(response, Nothing) and not (isinstance(response, Whole) and response.write_at_once(request)):
            return False
        self._messages.popleft()
        if (consumed := getattr(self._parser, "message_consumed", None)) is not None:
            consumed()
        manager.requests_count += 1
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._taken is not None:
            self._taken.feed_eof()
        self.end_stream()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What never became a request: no HTTP, or a head that is too long. The client's business, so it is told and the log is spared."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return super().handle_error(request, status, exc, message)
        refused = bad_request((message or HTTPStatus(status).phrase).partition("\n")[0].rstrip(":"))
        response = web.Response(status=status, body=encoded(refused), content_type=JSON)
        response.force_close()
        return response

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """The current task is cancelled in here when the client goes or the server stops. Clean up outside: that is not cut short."""
        self._stream = asyncio.current_task()
        try:
            yield
        finally:
            self._stream = None

    def end_stream(self) -> None:
        if self._stream is not None:
            self._stream.cancel()

    @property
    def stopping(self) -> bool:
        """The server ends: a stream that is cancelled may still say so to its client."""
        return isinstance(self._manager, HttpServer) and self._manager.stopping


class HttpServer(web.Server):
    """Makes a Connection for each client. `body_limit_bytes` bounds what `request.read()` accepts; `never_waits` tells whether the GET of a path,
    with its query, is answered without waiting for anything."""

    def __init__(self, handler: Handler, *, body_limit_bytes: int, never_waits: Callable[[str], bool], **settings: Any) -> None:
        super().__init__(handler, request_factory=self.request_of, **settings)
        self._body_limit_bytes = body_limit_bytes
        self.never_waits = never_waits
        self.stopping = False

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)

    def end_streams(self) -> None:
        """Watches and other streams end now, in order: their clients see an end, not a reset."""
        self.stopping = True
        for connection in self.connections:
            if isinstance(connection, Connection):
                connection.end_stream()

    def request_of(
        self, message: Any, payload: StreamReader, protocol: web.RequestHandler, writer: AbstractStreamWriter, task: Any
    ) -> web.BaseRequest:
        """What aiohttp parsed, as a request."""
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop, client_max_size=self._body_limit_bytes)
