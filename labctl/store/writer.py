"""The writer thread does a store's disk work, one piece after another, in the order in which the loop asked for it.

The engine calls `run` on the loop and waits there; the thread never touches anything of the loop but to say that a piece of work is done.
Because there is one thread and one queue, two pieces of work never use the database connection at the same time.
(concurrent.futures does the same in five times as many steps, and each step costs a write that waits.)
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

_Job = tuple[Callable[[Any], Any], Any, asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class WriterThread:
    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()
        self._waiting = 0

    @property
    def idle(self) -> bool:
        """True if nothing that was asked of the thread is left to do, so that it uses nothing."""
        return not self._waiting

    async def run(self, work: Callable[[Any], Any], argument: Any) -> Any:
        """Runs `work(argument)` on the thread, and returns or raises what it does. Work goes on to its end even if the caller is cancelled."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self._waiting += 1
        self._jobs.put((work, argument, loop, done))
        return await done

    def close(self) -> None:
        """Waits until all requested work is done, then ends the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, argument, loop, done = job
            result = error = None
            try:
                result = work(argument)
            except BaseException as raised:  # whatever it is, the caller is waiting for it
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits any more
                loop.call_soon_threadsafe(self._finish, done, result, error)

    def _finish(self, done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._waiting -= 1
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)
