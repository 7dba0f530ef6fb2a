"""Virtual time: an event loop on which waiting takes no real time, and whose order is the same each time.

    run(seed_42())            # an hour of leases in a second

When nothing is ready, the loop moves its time to the next timer instead of sleeping. It never looks at a socket or a thread, so code that
waits for one
can never continue; the loop raises an error then.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH_S = 1_790_000_000.0


class _NoSelector(selectors.SelectSelector):
    """Looks at no socket: a timeout only moves the virtual time."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing is scheduled any more, but a task still waits: in virtual time it would wait for ever")
        self.loop.pass_time(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time."""

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
    """A clock whose monotonic time is the loop's.

    The wall clock can be moved away from it, as an administrator or a suspended host does.
    """

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
    """Run a coroutine in virtual time, as asyncio.run does in real time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
