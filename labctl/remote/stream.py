"""One stream as the master holds it: bounded both ways, fed by process.py."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from labctl.errors import RemoteError
from labctl.remote import wire


class RemoteStream:
    """See interface.Stream. What is written after the command ended is dropped: its status tells the story."""

    def __init__(self, id_: int, name: str, window_bytes: int, send: Callable[[wire.Message], None]) -> None:
        self.name = name
        self._id = id_
        self._window = window_bytes
        self._send = send
        self._output: deque[tuple[int, bytes]] = deque()  # the other side sends no more than the window
        self._may_write = window_bytes
        self._taken = 0
        self._changed = asyncio.Event()
        self._wake_writer = asyncio.Event()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._ended.add_done_callback(lambda future: future.exception())  # nobody has to ask
        self._closed = False

    async def opened(self) -> None:
        await self._opened

    # the seam

    async def read(self) -> AsyncIterator[tuple[int, bytes]]:
        while True:
            while self._output:
                source, data = self._output.popleft()
                self._count(len(data))
                yield source, data
            if self._closed:
                return
            if self._ended.done():
                self._ended.result()  # raises if the stream broke: an end that looks like the command's own would be a lie
                return
            self._changed.clear()
            await self._changed.wait()

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), wire.CHUNK_BYTES):
            piece = data[start : start + wire.CHUNK_BYTES]
            while self._may_write <= 0 and not self._over():
                self._wake_writer.clear()
                await self._wake_writer.wait()
            if self._over():
                return
            self._may_write -= len(piece)
            self._send(wire.Input(self._id, piece))

    async def end_input(self) -> None:
        if not self._over():
            self._send(wire.EndInput(self._id))

    async def resize(self, columns: int, rows: int) -> None:
        if not self._over():
            self._send(wire.Resize(self._id, columns, rows))

    async def status(self) -> int:
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        if not self._over():
            self._send(wire.Close(self._id))
        self._closed = True
        self._output.clear()
        self._wake()

    # what the SSH process says

    def on_message(self, message: wire.Opened | wire.Output | wire.Credit | wire.Ended) -> None:
        if isinstance(message, wire.Output):
            if not self._closed:
                self._output.append((message.source, message.data))
        elif isinstance(message, wire.Credit):
            self._may_write += message.size
        elif isinstance(message, wire.Opened):
            if not self._opened.done():
                self._opened.set_result(None)
        elif not self._ended.done():
            self._ended.set_result(message.status)
        self._wake()

    def on_failure(self, error: RemoteError) -> None:
        for future in (self._opened, self._ended):
            if not future.done():
                future.set_exception(error)
                break  # a stream that did not open raises there, once
        if not self._ended.done():
            self._ended.set_exception(error)
        self._wake()

    def _over(self) -> bool:
        return self._closed or self._ended.done()

    def _wake(self) -> None:
        self._changed.set()
        self._wake_writer.set()

    def _count(self, size: int) -> None:
        """Half a window at a time: a credit per chunk would double the messages."""
        self._taken += size
        if self._taken * 2 >= self._window and not self._over():
            self._send(wire.Credit(self._id, self._taken))
            self._taken = 0
