"""Heads of requests with a body that are sent again with the same bytes are not parsed again.

A client that makes one object after another sends the same head each time, as long as the bodies have the same length. Each Connection looks here before it
gives bytes to aiohttp's parser; what that parser made of a head before is what it would make of it now. Nothing else is remembered: who asks, whether he may,
and what is answered is found out for each request in the ordinary way.

The parser, and aiohttp's task that takes requests from it and answers them, took a tenth of the time of a create.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from aiohttp import StreamReader, web
from aiohttp.http_writer import StreamWriter

from labctl.api.framing import PART_BYTES

HEAD_BYTES_MAX = 2048  # a longer head is not remembered
END_OF_HEAD = b"\r\n\r\n"
_HEADS_MAX = 1024
_CHANGES_READING = ("Expect", "Upgrade", "Transfer-Encoding")
"""Headers that say how to go on after the head: what comes with one of them is always parsed."""


class Known(NamedTuple):
    message: Any  # aiohttp's RawRequestMessage, which never changes
    head_bytes: int
    whole_bytes: int  # of the head and the body together


class Heads:
    """The heads that are known. When there are too many, all are forgotten: those that are still in use are known again with their next request."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes  # of a request
        self._known: dict[bytes, Known] = {}

    def learn(self, sent: bytes, head_bytes: int, message: Any) -> None:
        """Remembers what the parser made of a request that came alone and as a whole."""
        if len(sent) == head_bytes or head_bytes > HEAD_BYTES_MAX or len(sent) > self._most_bytes or sent[:head_bytes] in self._known:
            return
        if message.should_close or message.upgrade or any(name in message.headers for name in _CHANGES_READING):
            return
        if len(self._known) >= _HEADS_MAX:
            self._known.clear()
        self._known[sent[:head_bytes]] = Known(message, head_bytes, len(sent))

    def find(self, sent: bytes) -> Known | None:
        """Returns what is known of a request, if these bytes are a known head and exactly its body."""
        known = self._known.get(sent[: sent.find(END_OF_HEAD) + len(END_OF_HEAD)])
        return known if known is not None and known.whole_bytes == len(sent) else None


class KnownRequests(web.RequestHandler):
    """The part of a Connection that answers requests whose heads are known, one at a time, as aiohttp answers those that it parses."""

    __slots__ = ("_held", "_task", "_whole", "known_body")

    def __init__(self, manager: web.Server, **settings: Any) -> None:
        super().__init__(manager, **settings)
        self._whole = True  # everything that came before was whole requests, and all are answered
        self.known_body: bytes | None = None  # of such a request, while it is under way
        self._task: asyncio.Task[None] | None = None  # answers it
        self._held = b""  # what came meanwhile

    def over(self) -> None:
        """Takes note that the request under way has its answer, or never will."""
        raise NotImplementedError

    def begin_known(self, manager: web.Server, known: Known, sent: bytes) -> None:
        self.known_body = sent[known.head_bytes :]
        self._task = self._loop.create_task(self._answer_known(manager, known.message, self.known_body))

    async def _answer_known(self, manager: web.Server, message: Any, sent: bytes) -> None:
        body = StreamReader(self, PART_BYTES, loop=self._loop)
        body.feed_data(sent)
        body.feed_eof()
        try:
            request = manager.request_factory(message, body, self, StreamWriter(self, self._loop), self._task)  # type: ignore[arg-type]
            answer = await manager.request_handler(request)
            await answer.prepare(request)
            await answer.write_eof()
        except ConnectionError:
            self._whole = False
        finally:
            self.over()
            self.known_body = self._task = None
            self._go_on()

    def hold(self, data: bytes) -> None:
        """Keeps what a client sends before it has the answer to a request whose head was known, and reads no more from it."""
        if not self._held and self.transport is not None:
            self.transport.pause_reading()
        self._held += data

    def _go_on(self) -> None:
        """Begins with what came meanwhile. If the request was not answered as a whole, nobody can tell where the next one begins: the connection ends."""
        held, self._held = self._held, b""
        if not self._whole:
            self.force_close()
        elif held and self.transport is not None:
            self.transport.resume_reading()
            self.data_received(held)

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's
        """Waits for the request under way, then ends the connection. aiohttp knows only of those that it has parsed."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=timeout)
        await super().shutdown(timeout)

    def _process_keepalive(self) -> None:
        """Is called by aiohttp when it has seen no request for long. While one is under way that it does not see, it has to ask again later."""
        if self._task is not None:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()
