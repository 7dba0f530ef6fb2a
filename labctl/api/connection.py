"""This module adds to aiohttp's server for each connection: its user, the stream that must end with it, a switch to raw bytes (SPDY), and bounds.

Who has no certificate is anybody, a pod too, and each connection costs memory and a file descriptor. So each address has only so many of them, and a
connection on which no request comes within its time is closed.

aiohttp doesn't cancel a handler when its client disconnects: a hundred abandoned watches would get events for ever. What a handler does within
`streaming()` is cancelled as soon as the connection is lost or the server stops. Handlers that write objects are not cancelled: a write that began is finished.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from aiohttp import StreamReader, web

from labctl.api import identity
from labctl.api.answer import DRAIN_ABOVE_BYTES
from labctl.api.framing import PART_BYTES, Framing
from labctl.api.heads import END_OF_HEAD, Heads, KnownRequests
from labctl.api.masks import MaskedOnly
from labctl.api.negotiate import JSON
from labctl.api.repeats import HEAD_BYTES_MAX, Repeats
from labctl.api.status import bad_request, encoded, too_many
from labctl.errors import ApiError
from labctl.resources.service import User

_NODE_USER = "system:node:"
_READS = b"GET "  # nothing else is answered again
_WRITES = (b"POST ", b"PUT ", b"PATCH ")  # they have bodies
_HEAD_MAX_BYTES = 1 << 20  # as in Go
_LAST_WORDS_S = 1.0  # until a client that is not read any more has got its answer
_RAW_BYTES = 128 << 10  # asyncio stops reading from the client at twice this much

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Connection(KnownRequests):
    __slots__ = (
        "_body",
        "_counted_as",
        "_deadline",
        "_fed",
        "_framing",
        "_head_bytes",
        "_head_part",
        "_leave",
        "_message",
        "_ordinary_s",
        "_raw",
        "_sent",
        "_stream",
        "user",
    )

    def __init__(self, manager: web.Server, **settings: Any) -> None:
        super().__init__(manager, **settings)
        self.user: User | None = None
        self._counted_as = ""  # who opened it, if that is bounded
        self._deadline: asyncio.TimerHandle | None = None
        self._stream: asyncio.Task[Any] | None = None
        self._raw: asyncio.StreamReader | None = None
        self._sent = b""  # the first bytes of the request that is being answered
        self._head_bytes = self._fed = 0  # the length of its head, and how many bytes the parser got since it began
        self._leave: Callable[[], None] | None = None  # is called when the request that is under way is over
        self._message: Any = None  # the head of the request that is being answered, or was last, as aiohttp parsed it
        self._body: StreamReader | None = None  # its body
        self._framing: Framing | None = None  # from the first body in chunks on
        self._head_part = 0  # so many bytes came of a head that is not whole
        self._ordinary_s = 0.0  # when a request last went through aiohttp, which closes connections that it thinks idle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.user = identity.of_transport(transport)
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=4 * DRAIN_ABOVE_BYTES)  # type: ignore[attr-defined]  # it is one of sockets
        if isinstance(self._manager, HttpServer) and not self._counts(self._manager, transport):
            transport.abort()  # type: ignore[attr-defined]  # it is one of sockets
            return
        self._hurry()

    def _counts(self, manager: HttpServer, transport: asyncio.BaseTransport) -> bool:
        """Take the connection into account. Return False if its peer has too many."""
        if self.user is not None and not self.user.name.startswith(_NODE_USER):
            return True
        peer = transport.get_extra_info("peername")
        self._counted_as = self.user.name if self.user else str(peer[0] if peer else "")
        manager.opened[self._counted_as] += 1
        return manager.opened[self._counted_as] <= manager.connections_of_one

    def _hurry(self) -> None:
        """Closes the connection if no request's head has come in time."""
        if self._deadline is None and isinstance(self._manager, HttpServer):
            self._deadline = self._loop.call_later(self._manager.head_s, self._too_slow)

    def began(self, head: Any, body: StreamReader) -> None:
        """Takes note of the request that is answered next. aiohttp parses what stands behind a refused upgrade by itself, so some are known only now."""
        self.headed()
        self._message, self._body = head, body
        if self._framing is None and getattr(head, "chunked", False):
            self._framing = Framing(self._loop.time())

    def headed(self) -> None:
        """Takes note that the head of a request is there."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self.transport is not None and self._raw is None and self._current_request is None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._raw is not None:
            self._raw.feed_data(data)
            return
        if self.known_body is not None:
            self.hold(data)
            return
        if self._whole:
            if self.user is not None and data.startswith(_READS) and self._answer_again(data):
                return
            if data.startswith(_WRITES) and self._handle_known(data):
                return
        self._follow(data)
        if len(data) <= PART_BYTES:
            self._parse(data)
        else:
            for start in range(0, len(data), PART_BYTES):
                self._parse(data[start : start + PART_BYTES])
        if self._head_part and not self._whole and self._current_request is None and not self._messages:
            self._hurry()  # what came belongs to no request that is known: a head began, wherever the one before ended
            if self._head_part > _HEAD_MAX_BYTES and self.transport is not None:
                self.transport.abort()  # nor is it one: an older aiohttp forgets the request whose body this is

    def _parse(self, data: bytes) -> None:
        """Gives bytes to aiohttp, and ends a request whose body comes in too many chunks."""
        before, waiting = self._arriving(), len(self._messages)
        had = before.total_bytes if before else 0
        super().data_received(data)
        came = list(self._messages)[waiting:]
        sent, self._head_part = self._head_part + len(data), 0
        if before is None and not came:
            self._head_part = sent
            return
        if self._framing is None:
            if not any(getattr(head, "chunked", False) for head, _ in came):  # what is no request has no such attribute
                return
            self._framing = Framing(self._loop.time())
        bodies = sum(body.total_bytes for _, body in came) + (before.total_bytes - had if before else 0)
        self._framing.count(sent, bodies, [head for head, _ in came])
        held_back = self._reading_paused or getattr(self, "_buffer_paused", False)  # then the parser keeps some; older ones have one switch
        if not held_back and self._framing.exceeded(self._loop.time()):
            self._end_body(bad_request("the body came in too many small chunks"))

    def resume_reading(self, *arguments: Any, **settings: Any) -> None:
        """Is called by aiohttp whenever somebody has read from a body. If nothing was paused, nothing waits to be parsed."""
        if self._reading_paused:
            super().resume_reading(*arguments, **settings)

    def _arriving(self) -> StreamReader | None:
        """Returns the body of which some is still to come, if any."""
        body = self._messages[-1][1] if self._messages else self._body
        return None if body is None or body.is_eof() else body

    def _end_body(self, refusal: ApiError) -> None:
        """Reads nothing more from the client. Whoever reads the body, or will, gets `refusal`."""
        body, request, transport = self._arriving(), self._current_request, self.transport
        self.close()
        if body is not None:
            if (request is not None and request.content is body) or any(payload is body for _, payload in self._messages):
                body.set_exception(refusal)  # else its request is answered, and aiohttp alone waits for its end
            body.feed_eof()
        if transport is not None:
            transport.pause_reading()
            self._loop.call_later(_LAST_WORDS_S, transport.abort)  # TLS would wait for the client's goodbye among all that it sends

    def set_parser(self, parser: Any, *more: Any, **settings: Any) -> None:
        """Is called by aiohttp when a WebSocket begins."""
        super().set_parser(MaskedOnly(parser), *more, **settings)  # type: ignore[arg-type]  # it is fed as a reader is

    def _answer_again(self, data: bytes) -> bool:
        """Answers a request whose bytes are known. Returns False if it has to go the ordinary way."""
        manager = self._manager
        if len(data) > HEAD_BYTES_MAX or not isinstance(manager, HttpServer) or manager.repeats is None or manager.stopping:
            return False
        if self.transport is None or self.transport.get_write_buffer_size() > DRAIN_ABOVE_BYTES:
            return False
        if self._loop.time() - self._ordinary_s > manager.repeat_within_s:
            return False
        answer = manager.repeats.answer(data, self.user)  # type: ignore[arg-type]  # data_received looked
        if answer is None:
            return False
        self.transport.write(answer)
        return True

    def _handle_known(self, data: bytes) -> bool:
        """Handles a request whose head is known without the parser. Returns False if it has to go the ordinary way."""
        manager = self._manager
        if not isinstance(manager, HttpServer) or manager.stopping or self._framing is not None:
            return False
        known = manager.heads.find(data)
        if known is None or self.transport is None or self._loop.time() - self._ordinary_s > manager.repeat_within_s:
            return False
        self._whole = False
        self._sent, self._head_bytes, self._fed = data, known.head_bytes, known.whole_bytes
        self.begin_known(manager, known, data)
        return True

    def _follow(self, data: bytes) -> None:
        """Notes where requests begin and end in what the client sends, as far as is needed to know when a new one begins."""
        if self._whole:
            self._whole = False
            self._sent, self._fed = data, len(data)
            self._head_bytes = data.find(END_OF_HEAD) + len(END_OF_HEAD)
            if self._head_bytes < len(END_OF_HEAD):
                self._hurry()  # what comes as a whole needs no timer; if it is no request in spite of that, data_received sets one
            self._ordinary_s = self._loop.time()
        else:
            self._fed += len(data)

    @property
    def request_bytes(self) -> bytes:
        """Return the bytes of the request that is being answered if it came alone and has no body, else none."""
        return bytes(self._sent) if self._fed == self._head_bytes == len(self._sent) else b""

    def answered(self, request: web.BaseRequest, code: int) -> None:
        """Takes note that a request has its whole answer. If nothing came after it, the next bytes begin a new one."""
        if self.known_body is not None:
            self._whole = True
        elif self._head_bytes >= len(END_OF_HEAD) and self._fed == self._head_bytes + (request.content_length or 0):
            self._whole = "Transfer-Encoding" not in request.headers
            if self._whole:
                self.headed()  # its body may have looked like the begin of a head, in the moment between its head and its handler
                if code < HTTPStatus.BAD_REQUEST and len(self._sent) == self._fed and isinstance(self._manager, HttpServer):
                    self._manager.heads.learn(self._sent, self._head_bytes, self._message)

    def under_way(self, leave: Callable[[], None]) -> None:
        """Takes note of what has to be called when the request that is being answered is over."""
        self._leave = leave

    def over(self) -> None:
        if self._leave is not None:
            self._leave()
            self._leave = None

    async def finish_response(self, *arguments: Any) -> Any:
        """Is called by aiohttp to send an answer, after the handler."""
        try:
            return await super().finish_response(*arguments)
        finally:
            self.over()

    def take_over(self) -> asyncio.StreamReader:
        """Switches to raw bytes: from now on the returned reader gets what the client sends. When the reader is full, the client has to wait."""
        assert self.transport is not None
        self._raw = asyncio.StreamReader(limit=_RAW_BYTES)
        self._raw.set_transport(self.transport)
        return self._raw

    def must_have_room(self) -> None:
        """Raises 429 if too many large answers wait already for whoever opened this connection: each is held until it is read."""
        manager = self._manager
        if self._counted_as and isinstance(manager, HttpServer) and manager.held_bytes[self._counted_as] >= manager.held_bytes_of_one:
            raise too_many("large answers wait for this client: read them first")

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Within this context a large answer waits for its reader."""
        manager, who = self._manager, self._counted_as
        if not who or not isinstance(manager, HttpServer):
            yield
            return
        manager.held_bytes[who] += size
        try:
            yield
        finally:
            manager.held_bytes[who] -= size
            if not manager.held_bytes[who]:
                del manager.held_bytes[who]

    async def drained(self) -> None:
        """Waits until the client has read most of what was sent. Raises ConnectionResetError if it reads nothing for too long: then the connection ends."""
        manager = self._manager
        try:
            async with asyncio.timeout(manager.stall_s if isinstance(manager, HttpServer) else None):
                await self._drain_helper()
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()
            raise ConnectionResetError("the client reads nothing") from None

    def eof_received(self) -> None:
        """Ends the connection: over TLS nothing can be sent any more to a client that has closed its side."""
        self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.headed()
        if self._counted_as and isinstance(self._manager, HttpServer):
            self._manager.left(self._counted_as)
            self._counted_as = ""
        super().connection_lost(exc)
        if self._raw is not None:
            self._raw.feed_eof()
        self.end_stream()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answers bytes that never became a request (no HTTP, or a head that is too long). That is the client's mistake, so it is not logged."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return super().handle_error(request, status, exc, message)
        refused = bad_request((message or HTTPStatus(status).phrase).partition("\n")[0].rstrip(":"))
        response = web.Response(status=status, body=encoded(refused), content_type=JSON)
        response.force_close()
        return response

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Within this context the current task is cancelled when the client disconnects or the server stops. Clean up after the context: that runs to its end."""
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
        """True if the server is stopping: then a cancelled stream can still send its client a proper end."""
        return isinstance(self._manager, HttpServer) and self._manager.stopping


class HttpServer(web.Server):
    """Makes a Connection for each client. `body_limit_bytes` bounds what `request.read()` accepts.

    `opened` counts connections by who opened them, for those of whom each has at most `connections_of_one`.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        body_limit_bytes: int,
        head_s: float,
        connections_of_one: int,
        held_bytes_of_one: int,
        keepalive_timeout: float,
        stall_s: float,
        repeats: Repeats | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(handler, request_factory=self._request, keepalive_timeout=keepalive_timeout, **settings)
        self.repeats = repeats
        self.heads = Heads(min(PART_BYTES, body_limit_bytes))
        self.repeat_within_s = keepalive_timeout / 2
        self._body_limit_bytes = body_limit_bytes
        self.stopping = False
        self.head_s, self.stall_s, self.connections_of_one = head_s, stall_s, connections_of_one
        self.held_bytes_of_one = held_bytes_of_one
        self.opened: Counter[str] = Counter()
        self.held_bytes: Counter[str] = Counter()  # of large answers that wait for their readers

    def left(self, who: str) -> None:
        """Takes a closed connection out of the count."""
        self.opened[who] -= 1
        if not self.opened[who]:
            del self.opened[who]

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)

    def end_streams(self) -> None:
        """Ends watches and other streams properly: their clients see an end of the stream, not a reset."""
        self.stopping = True
        for connection in self.connections:
            if isinstance(connection, Connection):
                connection.end_stream()

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        protocol.began(message, payload)
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop, client_max_size=self._body_limit_bytes)
