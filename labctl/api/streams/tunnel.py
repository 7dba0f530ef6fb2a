"""A Tunnel serves port-forward over SPDY. kubectl opens two streams for each local connection, `error` and `data`, with the same request id.

When both are open, the connection to the pod is made. The frames may come in a WebSocket's messages or on a connection of their own: the owner passes received
bytes to `received`, and the tunnel calls `send` with bytes for the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import ClientConnectionResetError

from labctl.api.streams import pods, spdy
from labctl.api.streams.carry import Destination, Inbox
from labctl.api.turns import Turns

CONNECTIONS_MAX = 256


class Tunnel:
    """One client's SPDY connection. `send` is awaited for each frame and may raise ClientConnectionResetError."""

    def __init__(self, destination: Destination, send: Callable[[bytes], Awaitable[None]]) -> None:
        self._destination = destination
        self._send = send
        self._framer = spdy.Framer()
        self._turns = Turns()
        self._errors: dict[str, int] = {}  # request id -> its error stream
        self._inboxes: dict[int, Inbox] = {}  # by data stream
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def received(self, data: bytes) -> bool:
        """Takes bytes from the client. Returns False if the connection should be closed."""
        try:
            for frame in self._framer.feed(data):
                await self._frame(frame)
                await self._turns.handled()
        except (ClientConnectionResetError, spdy.ProtocolError):
            return False
        return True

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _frame(self, frame: spdy.Frame) -> None:
        match frame:
            case spdy.Opened():
                await self._opened(frame)
            case spdy.Data():
                inbox = self._inboxes.get(frame.stream)
                if inbox is not None:
                    await inbox.put(frame.data)
                    if frame.fin:
                        inbox.end()
            case spdy.Reset():
                task = self._tasks.get(frame.stream)
                if task is not None:
                    task.cancel()
            case spdy.Ping():
                await self._send(self._framer.pong(frame.id))

    async def _opened(self, frame: spdy.Opened) -> None:
        request = frame.headers.get("requestid", "")
        port = frame.headers.get("port", "")
        kind = frame.headers.get("streamtype", "")
        if kind == "error" and len(self._errors) < CONNECTIONS_MAX:
            self._errors[request] = frame.stream
        elif kind != "data" or not pods.is_port(port) or request not in self._errors or len(self._tasks) >= CONNECTIONS_MAX:
            await self._send(self._framer.reset(frame.stream))
            return
        await self._send(self._framer.reply(frame.stream))
        if kind == "data":
            self._inboxes[frame.stream] = Inbox()
            task = asyncio.create_task(self._connection(frame.stream, self._errors.pop(request), int(port)))
            self._tasks[frame.stream] = task
            task.add_done_callback(lambda _: self._forget(frame.stream))

    def _forget(self, data: int) -> None:
        del self._tasks[data]
        self._inboxes.pop(data).close()

    async def _connection(self, data: int, error: int, port: int) -> None:
        """Serves one local connection of kubectl from its beginning to its end. The error stream carries what went wrong."""
        with suppress(ClientConnectionResetError):
            problem = await self._destination.carry(port, self._inboxes[data], lambda chunk: self._send(self._framer.data(data, chunk)))
            await self._send(self._framer.data(error, problem.encode(), fin=True))
            await self._send(self._framer.data(data, b"", fin=True))
