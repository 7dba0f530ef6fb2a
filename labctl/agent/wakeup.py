"""A wakeup that tasks wait for: each `wake` lets all who wait go on, and its owner, if busy meanwhile, learns of it at the next `woken`.

A pod's worker and its reporter have one each. What happens elsewhere (news of the API, a container's end, an image that came) calls `wake`.
"""

from __future__ import annotations

import asyncio
from typing import Optional, Set


class Wakeup:
    def __init__(self) -> None:
        self._waiting: "Set[asyncio.Future[bool]]" = set()
        self.pending = False

    def wake(self) -> None:
        self.pending = True
        for waiter in self._waiting:
            _settle(waiter, True)

    async def wait(self, timeout_s: Optional[float] = None) -> bool:
        """Waits until the next `wake`; answers False if the time was over first. A caller awaits nothing between its look at the world and this call.

        This does not use `asyncio.wait_for`: before Python 3.12 that may swallow a cancellation that comes together with the wakeup.
        """
        loop = asyncio.get_running_loop()
        waiter: "asyncio.Future[bool]" = loop.create_future()
        timer = None if timeout_s is None else loop.call_later(timeout_s, _settle, waiter, False)
        self._waiting.add(waiter)
        try:
            return await waiter
        finally:
            self._waiting.discard(waiter)
            if timer:
                timer.cancel()

    async def woken(self, timeout_s: Optional[float] = None) -> None:
        """Waits as `wait` does, but returns at once if `wake` was called since the last time. Only the owner calls it."""
        if not self.pending:
            await self.wait(timeout_s)
        self.pending = False


def _settle(waiter: "asyncio.Future[bool]", woken: bool) -> None:
    if not waiter.done():
        waiter.set_result(woken)
