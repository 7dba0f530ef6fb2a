"""The supervisor keeps the long-lived tasks of a process running, and remembers which of them failed.

Who calls it: every room of the master that has a task without an end (`run`), and whoever catches a mistake about one message or one object
(`mistake`). A task that ends with an error is logged, noted in the journal and started again after a pause, which doubles from failure to failure
and begins anew after a quiet time. `health` is what `labctl status` prints, and `trouble` is what `/readyz` and `labctl why` say.
It never decides what a task does, and never gives a task up.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from labctl.clock import Clock
from labctl.errors import LabctlError
from labctl.journal import Journal

log = logging.getLogger(__name__)

Work = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class SupervisorSettings:
    pause_min_s: float = 0.1  # the first pause before a task is started again; it doubles with each failure
    pause_max_s: float = 10.0  # the longest pause
    steady_s: float = 60.0  # after a run of this length the pause is the shortest again
    recent_s: float = 300.0  # a failure is shown for this long
    often: int = 3  # this many recent restarts are trouble, even while the task runs
    names_max: int = 200  # how many tasks and kinds of mistakes are remembered


class TaskHealth(msgspec.Struct, frozen=True):
    """One supervised task, or one place where mistakes about single messages are caught."""

    name: str
    state: str  # running, waiting (for its next start), ended (it finished or was stopped)
    restarts: int = 0  # within `recent_s`
    mistakes: int = 0  # messages or objects that failed within `recent_s`
    error: str = ""  # the last one within `recent_s`
    is_task: bool = True  # False: a place where mistakes about messages are caught
    trouble: str = ""  # a sentence if the task does not run or fails often; mistakes about single messages are no trouble

    @property
    def noteworthy(self) -> bool:
        """True if a person who asks for the master's status should see this entry."""
        return bool(self.restarts or self.mistakes or self.state == "waiting")


class _Entry:
    """The record of one name. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.state = "ended"
        self.pause_s = 0.0
        self.restarts: deque[float] = deque(maxlen=100)
        self.mistakes: deque[float] = deque(maxlen=100)
        self.error = ""


class Supervisor:
    """Each process has one supervisor. All methods are called on the loop."""

    def __init__(self, clock: Clock, journal: Journal, settings: SupervisorSettings = SupervisorSettings()) -> None:  # noqa: B008 - frozen
        self._clock = clock
        self._journal = journal
        self._settings = settings
        self._entries: dict[str, _Entry] = {}

    def run(self, name: str, work: Work) -> None:
        """Starts the task, unless one of that name runs or waits for its next start. A task whose `work` returns has finished."""
        entry = self._entry(name)
        if entry.task is None or entry.task.done():
            entry.state = "running"
            entry.task = asyncio.get_running_loop().create_task(self._keep(name, entry, work), name=name)

    async def stop(self, *names: str) -> None:
        """Cancels these tasks (all tasks if none is named) and waits until they have ended."""
        tasks = [entry.task for name, entry in self._entries.items() if entry.task and (not names or name in names)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def mistake(self, name: str, error: BaseException | str) -> None:
        """Records that one message or one object failed while its task goes on. The first of several equal errors is logged with its traceback."""
        entry = self._entry(name)
        text = _sentence(error)
        entry.mistakes.append(self._clock.now())
        if entry.error != text:
            entry.error = text
            log.error("%s: %s", name, text, exc_info=error if isinstance(error, BaseException) else None)
            self._journal.note("master", f"task/{name}", f"failed once, and goes on: {text}")

    def health(self) -> Sequence[TaskHealth]:
        """Returns the health of every name, in order."""
        return [self._health(name, entry) for name, entry in sorted(self._entries.items())]

    def trouble(self) -> str:
        """Returns a sentence about the tasks that don't run or fail often; "" if there are none."""
        return "; ".join(one.trouble for one in self.health() if one.trouble)

    # -- parts

    async def _keep(self, name: str, entry: _Entry, work: Work) -> None:
        try:
            while True:
                began = self._clock.now()
                try:
                    await work()
                    return
                except Exception as error:
                    pause_s = self._failed(name, entry, error, self._clock.now() - began)
                await asyncio.sleep(pause_s)
                entry.state = "running"
        finally:
            entry.state = "ended"

    def _failed(self, name: str, entry: _Entry, error: Exception, ran_s: float) -> float:
        """Records a task's failure, and returns the pause before its next start in seconds."""
        steady = ran_s >= self._settings.steady_s
        entry.pause_s = self._settings.pause_min_s if steady or not entry.pause_s else min(entry.pause_s * 2, self._settings.pause_max_s)
        entry.state, entry.error = "waiting", _sentence(error)
        entry.restarts.append(self._clock.now())
        log.error("%s ended: %s", name, entry.error, exc_info=None if isinstance(error, LabctlError) else error)
        self._journal.note("master", f"task/{name}", f"ended, and is started again in {entry.pause_s:.1f} s: {entry.error}")
        return entry.pause_s

    def _entry(self, name: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = _Entry()
            self._forget_surplus()
        return entry

    def _forget_surplus(self) -> None:
        """Drops the oldest names that have no task: machines come and go, and their names must not pile up."""
        while len(self._entries) > self._settings.names_max:
            idle = next((name for name, entry in self._entries.items() if entry.task is None or entry.task.done()), None)
            if idle is None:
                return
            del self._entries[idle]

    def _health(self, name: str, entry: _Entry) -> TaskHealth:
        since = self._clock.now() - self._settings.recent_s
        restarts = sum(at > since for at in entry.restarts)
        mistakes = sum(at > since for at in entry.mistakes)
        waits = entry.state == "waiting"
        error = entry.error if restarts or mistakes or waits else ""
        trouble = ""
        if waits or restarts >= self._settings.often:
            times = "once" if restarts == 1 else f"{restarts} times"
            how = f"ended {times} and waits for its next start" if waits else f"was started again {times}"
            trouble = f"{name} {how}: {error}"
        return TaskHealth(name, entry.state, restarts, mistakes, error, entry.task is not None, trouble)


def _sentence(error: BaseException | str) -> str:
    if isinstance(error, str):
        return error[:500]
    with suppress(Exception):
        text = str(error).splitlines()[0][:500] if str(error) else ""
        return text if isinstance(error, LabctlError) else f"{type(error).__name__}: {text}"
    return type(error).__name__
