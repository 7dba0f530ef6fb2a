"""A bell that tasks wait for: each ring wakes all who wait, and one who was busy meanwhile finds that it rang."""

from __future__ import annotations

import asyncio
from typing import Optional


class Bell:
    def __init__(self) -> None:
        self._rung: "asyncio.Future[None] | None" = None
        self.pending = False

    def ring(self) -> None:
        self.pending = True
        if self._rung is not None and not self._rung.done():
            self._rung.set_result(None)
        self._rung = None

    async def wait(self, timeout_s: Optional[float] = None) -> bool:
        """Until the next ring; False if the time was over first. Between looking at the world and this call, await nothing."""
        if self._rung is None:
            self._rung = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait_for(asyncio.shield(self._rung), timeout_s)
            return True
        except asyncio.TimeoutError:
            return False

    async def answer(self, timeout_s: Optional[float] = None) -> None:
        """For the one who owns the bell: at once if it rang since the last answer."""
        if not self.pending:
            await self.wait(timeout_s)
        self.pending = False
