"""aiohttp's server, with three things of our own for each connection: who it is, what must end with it, and bytes that are no HTTP any more (SPDY).

aiohttp doesn't cancel a handler when its client goes: a hundred forgotten watches would be fed for ever. What a handler does within `streaming()` is
cancelled the moment the connection is lost, or the server stops. Handlers that write objects are left alone: what was begun is finished.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from aiohttp import web

from labctl.api import identity
from labctl.api.negotiate import JSON
from labctl.api.status import bad_request, encoded
from labctl.resources.service import User

_TAKEN_BYTES = 128 << 10  # half of what is read ahead of who reads it

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
        super().data_received(data)

    def take_over(self) -> asyncio.StreamReader:
        """From now on what the client sends is no HTTP: it comes out of the reader, whose bound is the client's flow control."""
        assert self.transport is not None
        self._taken = asyncio.StreamReader(limit=_TAKEN_BYTES)
        self._taken.set_transport(self.transport)
        return self._taken

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
    """Makes a Connection for each client. `body_limit_bytes` bounds what `request.read()` accepts."""

    def __init__(self, handler: Handler, *, body_limit_bytes: int, **settings: Any) -> None:
        super().__init__(handler, request_factory=self._request, **settings)
        self._body_limit_bytes = body_limit_bytes
        self.stopping = False

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)

    def end_streams(self) -> None:
        """Watches and other streams end now, in order: their clients see an end, not a reset."""
        self.stopping = True
        for connection in self.connections:
            if isinstance(connection, Connection):
                connection.end_stream()

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop, client_max_size=self._body_limit_bytes)
