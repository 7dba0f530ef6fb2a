"""A store engine that delays and fails, by a seed: it behaves like a slow or full disk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

from labctl.errors import Unavailable
from labctl.store.interface import Batch
from labctl.store.memory import MemoryEngine


class FaultyEngine(MemoryEngine):
    """A MemoryEngine whose appends take up to `delay_s` and fail with probability `fail`.

    Half of the failed ones are stored all the same.
    """

    def __init__(self, rng: Random, *, fail: float = 0.0, delay_s: float = 0.0) -> None:
        super().__init__()
        self._rng = rng
        self.fail = fail
        self.delay_s = delay_s

    async def append(self, group: Sequence[Batch]) -> None:
        if self.delay_s:
            await asyncio.sleep(self._rng.random() * self.delay_s)
        if self._rng.random() >= self.fail:
            return await super().append(group)
        if self._rng.random() < 0.5:
            await super().append(group)  # it is written, but the caller gets an error
        raise Unavailable("the simulated disk refused a write")
