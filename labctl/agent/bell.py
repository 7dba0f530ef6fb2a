"""A bell that tasks wait for: each ring wakes all who wait, and one who was busy meanwhile finds that it rang."""

from __future__ import annotations

import asyncio
from typing import Optional, Set


class Bell:
    def __init__(self) -> None:
        self._waiting: "Set[asyncio.Future[bool]]" = set()
        self.pending = False

    def ring(self) -> None:
        self.pending = True
        for waiter in self._waiting:
            _answer(waiter, True)

    async def wait(self, timeout_s: Optional[float] = None) -> bool:
        """Until the next ring; False if the time was over first. Between looking at the world and this call, await nothing.

        Not through `asyncio.wait_for`: before Python 3.12 it may swallow a cancellation that comes together with the ring.
        """
        loop = asyncio.get_running_loop()
        waiter: "asyncio.Future[bool]" = loop.create_future()
        timer = None if timeout_s is None else loop.call_later(timeout_s, _answer, waiter, False)
        self._waiting.add(waiter)
        try:
            return await waiter
        finally:
            self._waiting.discard(waiter)
            if timer:
                timer.cancel()

    async def answer(self, timeout_s: Optional[float] = None) -> None:
        """For the one who owns the bell: at once if it rang since the last answer."""
        if not self.pending:
            await self.wait(timeout_s)
        self.pending = False


def _answer(waiter: "asyncio.Future[bool]", rang: bool) -> None:
    if not waiter.done():
        waiter.set_result(rang)
