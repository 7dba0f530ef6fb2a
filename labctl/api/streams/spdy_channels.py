"""This module serves SPDY/3.1 on a connection of its own: kubectl before 1.29 and most Go programs use it for exec, attach and port-forward.

The client asks for an upgrade, and names the versions of the inner protocol that it knows; after the 101 both sides send frames. For exec and
attach the client opens a stream for each channel, named by its header `streamType`; when all streams that the request needs are open, the command
starts. The exit status goes over the error stream, in the same form as over a WebSocket. Flow control is TCP's, as in Kubernetes' own programs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress

from aiohttp import ClientConnectionResetError

from labctl.api import answer, status
from labctl.api.call import Call
from labctl.api.streams import spdy
from labctl.api.turns import Turns
from labctl.errors import ApiError

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
NUMBERS = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": ERROR, "resize": RESIZE}
OPENING_S = 30.0  # a real server waits this long for the client's streams
CLOSING_S = 2.0
EARLY_MAX_BYTES = 1 << 20
_MESSAGE_BYTES = 100  # what a message costs beside its data: they may be of one byte each
SIZE_MAX_BYTES = 4096
FRAME_MAX_BYTES = 1 << 20
_READ_BYTES = 64 << 10
_VERSION = "X-Stream-Protocol-Version"


def choose_version(call: Call, supported: Sequence[str]) -> str:
    """Returns the first supported version that the client names; "" if it names none, as the oldest clients do. Raises 403."""
    offered = [v.strip() for value in call.request.headers.getall(_VERSION, []) for v in value.split(",")]
    if not offered:
        return ""
    chosen = next((v for v in supported if v in offered), "")
    if not chosen:
        raise ApiError(
            403,
            "Forbidden",
            f"unable to upgrade: unable to negotiate protocol: client supports {offered}, server accepts {list(supported)}",
        )
    return chosen


class Upgraded:
    """A connection that was upgraded from HTTP and now carries raw bytes."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._reader: asyncio.StreamReader | None = None

    async def switch(self, version: str) -> None:
        """Answers 101. From then on the connection carries frames."""
        self._reader = self._call.connection.take_over()
        lines = {"Upgrade": "SPDY/3.1", "Connection": "Upgrade", **({_VERSION: version} if version else {})}
        await self.send(b"HTTP/1.1 101 Switching Protocols\r\n" + answer.header_lines(lines) + b"\r\n")

    async def send(self, data: bytes) -> None:
        """Sends bytes. Raises ClientConnectionResetError if the client has disconnected."""
        transport = self._call.request.transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("the client is gone")
        transport.write(data)
        await self._call.request.writer.drain()

    async def read(self) -> bytes:
        """Returns some bytes; empty bytes if the client has disconnected."""
        assert self._reader is not None
        return await self._reader.read(_READ_BYTES)


class SpdyChannels:
    """The client's end of exec and attach over SPDY."""

    def __init__(self, connection: Upgraded) -> None:
        self._connection = connection
        self._framer = spdy.Framer()
        self._turns = Turns()
        self._streams: dict[int, int] = {}  # channel -> stream
        self._channels: dict[int, int] = {}  # stream -> channel
        self._early: list[tuple[int, bytes]] = []
        self._size = b""  # the first bytes of a terminal's size that is not complete yet

    async def open(self, expected: Collection[str]) -> None:
        """Waits until the client has opened these streams. Raises ApiError if it does not."""
        wanted = {NUMBERS[name] for name in expected}
        early_bytes = 0
        try:
            async with asyncio.timeout(OPENING_S):
                while not wanted <= self._streams.keys():
                    messages = await self._read()
                    if messages is None:
                        raise status.bad_request("the client went before it had opened its streams")
                    self._early += messages
                    early_bytes += sum(_MESSAGE_BYTES + len(data) for _, data in messages)
                    if early_bytes > EARLY_MAX_BYTES:
                        raise status.bad_request("the client sends before it has opened its streams")
        except TimeoutError:
            raise status.bad_request("timed out waiting for client to create streams") from None

    async def send(self, channel: int, data: bytes) -> None:
        stream = self._streams.get(channel)
        if stream is None:
            return  # the client did not open this channel
        for start in range(0, len(data), FRAME_MAX_BYTES):
            await self._connection.send(self._framer.data(stream, data[start : start + FRAME_MAX_BYTES]))

    async def messages(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yields (channel, data) like a WebSocket of version 5: a message on channel 255 says that standard input has ended."""
        messages: list[tuple[int, bytes]] | None = self._early
        self._early = []
        while messages is not None:
            for message in messages:
                yield message
            messages = await self._read()

    async def close(self) -> None:
        """Ends all streams. The caller closes the connection, after `linger`."""
        with suppress(ClientConnectionResetError):
            for stream in self._channels:
                await self._connection.send(self._framer.data(stream, b"", fin=True))

    async def linger(self) -> None:
        """Reads what the client still sends, for a short time or until it closes. If we closed first, TCP could drop bytes that the client has not read yet."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_S):
                while await self._connection.read():
                    pass

    async def _read(self) -> list[tuple[int, bytes]] | None:
        """Returns the messages in the next bytes; None at the end of the connection."""
        data = await self._connection.read()
        if not data:
            return None
        messages: list[tuple[int, bytes]] = []
        try:
            for frame in self._framer.feed(data):
                messages += await self._frame(frame)
                await self._turns.handled()
        except (spdy.ProtocolError, ClientConnectionResetError):
            return None
        return messages

    async def _frame(self, frame: spdy.Frame) -> list[tuple[int, bytes]]:
        match frame:
            case spdy.Opened():
                await self._opened(frame)
            case spdy.Data():
                return self._data(frame)
            case spdy.Ping():
                await self._connection.send(self._framer.pong(frame.id))
        return []

    async def _opened(self, frame: spdy.Opened) -> None:
        channel = NUMBERS.get(frame.headers.get("streamtype", ""))
        if channel is None or channel in self._streams:
            await self._connection.send(self._framer.reset(frame.stream))
            return
        self._streams[channel] = frame.stream
        self._channels[frame.stream] = channel
        await self._connection.send(self._framer.reply(frame.stream))

    def _data(self, frame: spdy.Data) -> list[tuple[int, bytes]]:
        channel = self._channels.get(frame.stream)
        if channel == RESIZE:
            *sizes, self._size = (self._size + frame.data)[-SIZE_MAX_BYTES:].split(b"\n")
            return [(RESIZE, size) for size in sizes if size]
        if channel != STDIN:
            return []
        messages = [(STDIN, frame.data)] if frame.data else []
        return [*messages, (CLOSE, bytes((STDIN,)))] if frame.fin else messages
