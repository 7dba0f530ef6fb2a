"""A blob on its way: pieces put in by the loop, read as a file by a thread, counted and hashed as they pass.

So a layer is unpacked while it arrives, and whether it was the right one is known at its end: until then nobody uses what came of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import queue
from typing import Any, Optional

PIECES_WAITING = 16


class Broken(OSError):
    """The blob will not come to its end."""


class Feed(io.RawIOBase):
    """`put` and `end` on the loop; all else in one reading thread, which has to `drain` whatever becomes of it: a put waits for room."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(PIECES_WAITING)
        self._pieces: "queue.SimpleQueue[Optional[bytes]]" = queue.SimpleQueue()
        self._rest = b""
        self._ended = False
        self._broken = False
        self._hash = hashlib.sha256()
        self.size = 0

    async def put(self, piece: bytes) -> None:
        await self._room.acquire()
        self._pieces.put(piece)

    def end(self, broken: bool = False) -> None:
        self._broken = broken
        self._pieces.put(None)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest and not self._ended:
            self._rest = self._take()
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _take(self) -> bytes:
        piece = self._pieces.get()
        if piece is None:
            self._ended = True
            if self._broken:
                raise Broken("the blob broke off")
            return b""
        self._loop.call_soon_threadsafe(self._room.release)
        self._hash.update(piece)
        self.size += len(piece)
        return piece

    def drain(self) -> None:
        """Read to the end, for the hash. If the transfer was broken off, stop there."""
        self._rest = b""
        while not self._ended:
            try:
                self._take()
            except Broken:
                return

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()
