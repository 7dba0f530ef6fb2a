"""Virtual time: a loop on which waiting takes none, and whose order is the same each time.

    run(seed_42())            # an hour of leases in a second

When nothing is ready the loop moves its time to the next timer instead of sleeping. It never looks at a socket or a thread, so whatever needs one hangs:
it says so, rather than wait for ever.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH_S = 1_790_000_000.0


class _NoSelector(selectors.SelectSelector):
    """Looks at no socket: a timeout is time that passes."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing is scheduled any more, and somebody still waits: in virtual time that is for ever")
        self.loop.pass_time(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual_s = 0.0
        selector = _NoSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._virtual_s

    def pass_time(self, seconds: float) -> None:
        self._virtual_s += max(0.0, seconds)


class VirtualClock:
    """Monotonic time is the loop's; the wall clock can be moved away from it, as an administrator's hand or a suspended host does."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._jumped_s = 0.0

    def now(self) -> float:
        return self._loop.time()

    def wall(self) -> float:
        return EPOCH_S + self._loop.time() + self._jumped_s

    def jump(self, seconds: float) -> None:
        self._jumped_s += seconds


def run(main: Coroutine[Any, Any, T]) -> T:
    """As asyncio.run, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
