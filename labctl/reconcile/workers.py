"""One serial worker per machine, all machines in parallel: what `proxy` and `network` program minions with.

Observers that program machines use it. `wake(machine)` says that something is to be done there; `work(machine)` then does all of it. Two rounds of work on
one machine never run at the same time, and all wakes during a round lead to one more round. Work that failed is tried again after a delay of that machine's
own. So a slow or dead machine delays no other machine, and a burst of changes is one round.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from labctl.clock import Clock
from labctl.errors import LabctlError
from labctl.reconcile.queue import KeyedQueue

log = logging.getLogger(__name__)

BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 2.0


class Workers:
    """`failed(machine, error, again_s)` is told of each failure."""

    def __init__(
        self,
        work: Callable[[str], Awaitable[None]],
        clock: Clock,
        failed: Callable[[str, Exception, float], None],
        *,
        backoff_min_s: float = BACKOFF_MIN_S,
        backoff_max_s: float = BACKOFF_MAX_S,
    ) -> None:
        self._work = work
        self._clock = clock
        self._failed = failed
        self._queue: KeyedQueue[str] = KeyedQueue(backoff_min_s, backoff_max_s)
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._running = False

    def start(self) -> None:
        self._running = True
        self._pump()

    async def stop(self) -> None:
        """Abandons calls that are running. Whoever starts next reads from the machines what those calls did."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self, machine: str) -> None:
        self._queue.add(machine)
        self._pump()

    @property
    def idle(self) -> bool:
        return self._queue.idle

    def _pump(self) -> None:
        if not self._running:
            return
        while (machine := self._queue.pop(self._clock.now())) is not None:
            task = asyncio.get_running_loop().create_task(self._round(machine), name=f"worker {machine}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._queue.next_due()
        if due is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self._clock.now()), self._pump)

    async def _round(self, machine: str) -> None:
        try:
            await self._work(machine)
        except LabctlError as error:
            self._failed(machine, error, self._queue.fail(machine, self._clock.now()))
        except Exception as error:  # our mistake: it must not end this machine's worker
            log.exception("working on %s", machine)
            self._failed(machine, error, self._queue.fail(machine, self._clock.now()))
        else:
            self._queue.done(machine)
        self._pump()
