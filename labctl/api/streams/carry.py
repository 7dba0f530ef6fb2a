"""One forwarded connection: from a client's stream to a pod's port, both ways, until the pod closes it.

What the client sends before the pod is dialled waits in an Inbox, which is bounded: a client that sends more is not read until there is room. An
Inbox whose connection is over swallows what still comes, so that it holds up no other connection of the same client.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from labctl.errors import LabctlError
from labctl.remote.interface import Remote, Stream

INBOX_BYTES = 256 << 10


class Inbox:
    """What a client sent to a connection and the pod did not take yet. One task puts, one gets."""

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._bytes = 0
        self._ended = False  # the client sends no more
        self._closed = False  # nobody reads any more
        self._changed = asyncio.Event()

    async def put(self, data: bytes) -> None:
        """Waits for room, unless nobody reads any more."""
        while self._bytes >= INBOX_BYTES and not self._closed:
            await self._wait()
        if data and not (self._closed or self._ended):
            self._parts.append(data)
            self._bytes += len(data)
            self._changed.set()

    def end(self) -> None:
        self._ended = True
        self._changed.set()

    def close(self) -> None:
        self._closed = True
        self._parts.clear()
        self._changed.set()

    async def get(self) -> bytes:
        """The next bytes; empty at their end."""
        while not self._parts and not self._ended:
            await self._wait()
        if not self._parts:
            return b""
        data = self._parts.popleft()
        self._bytes -= len(data)
        self._changed.set()
        return data

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class Destination:
    """A pod's address, as it is reached from its machine."""

    def __init__(self, remote: Remote, machine: str, address: str) -> None:
        self._remote = remote
        self._machine = machine
        self._address = address

    async def carry(self, port: int, inbox: Inbox, to_client: Callable[[bytes], Awaitable[None]]) -> str:
        """Dials the port and carries both ways until the pod closes. Answers what went wrong; empty if nothing did."""
        try:
            stream = await self._remote.dial(self._machine, self._address, port)
            sending = asyncio.create_task(_to_pod(inbox, stream))
            try:
                async for _number, chunk in stream.read():
                    await to_client(chunk)
            finally:
                sending.cancel()
                await stream.close()
        except LabctlError as problem:
            return str(problem)
        finally:
            inbox.close()
        return ""


async def _to_pod(inbox: Inbox, stream: Stream) -> None:
    while data := await inbox.get():
        await stream.write(data)
    await stream.end_input()
