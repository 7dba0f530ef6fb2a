"""The reporter says what was done and why: in the journal, for `labctl why`, and in Events.

The runner calls it. Events wait in a bounded queue until the runner has nothing else to do or a second has passed, so that a thousand bindings are not
slowed down by their Events. An Event may be lost; what is true stands in the objects.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from labctl.clock import Clock
from labctl.journal import Journal
from labctl.reconcile.plan import Key, Record
from labctl.reconcile.settings import ReconcileSettings

log = logging.getLogger(__name__)

QUIET_CHECK_S = 0.02
EVENTS_AT_ONCE = 16  # handed to the recorder before the loop serves others for PACE_S: about 3,000 a second
PACE_S = 0.005


class EventRecorder(Protocol):
    """resources/events.py's Recorder, for one component: it queues and counts repeats; `flush` waits until that is written."""

    def record(self, about: Any, type_: str, reason: str, message: str) -> None: ...

    async def flush(self) -> None: ...


class EventReporter:
    """`recorder(component)` answers who records in a controller's name; `quiet` tells whether the runner has nothing else to do."""

    def __init__(
        self,
        journal: Journal,
        recorder: Callable[[str], EventRecorder],
        quiet: Callable[[], bool],
        clock: Clock,
        settings: ReconcileSettings,
    ) -> None:
        self._journal = journal
        self._recorder = recorder
        self._recorders: dict[str, EventRecorder] = {}
        self._quiet = quiet
        self._clock = clock
        self._settings = settings
        self._whys: dict[tuple[str, Key], str] = {}
        self._events: deque[tuple[float, str, Any, Record]] = deque(maxlen=settings.events_keep)
        self._wake = asyncio.Event()

    def why(self, kind: str, key: Key) -> str:
        """Return the last sentence about an object, or ""."""
        return self._whys.get((kind, key), "")

    def note(
        self,
        component: str,
        kind: str,
        key: Key,
        text: str,
        *,
        rev: int = 0,
        causes: tuple[int, ...] = (),
        did: str = "",
        of: str = "",
        where: str = "",
    ) -> None:
        """Keeps a sentence about an object, unless it is the one that was said last. `causes`: the revisions that led to it, the latest last."""
        about = (kind, key)
        if self._whys.get(about) == text and not rev:
            return
        self._whys.pop(about, None)
        self._whys[about] = text
        if len(self._whys) > self._settings.whys_keep:
            del self._whys[next(iter(self._whys))]
        about_key = f"{kind}/{key}"
        cause, also = (causes[-1], causes[:-1]) if causes else (0, ())
        self._journal.note(
            component, about_key, text, rev=rev, cause=cause, also=also, did=did, of="" if of == about_key else of, where=where
        )

    def event(self, component: str, about: Any, record: Record) -> None:
        """Queue an Event about an object, given as its typed view."""
        self._events.append((self._clock.now(), component, about, record))
        self._wake.set()

    async def run(self) -> None:
        """Writes queued Events, a few at a time, when nothing else is to be done. Runs until it is cancelled."""
        while True:
            self._wake.clear()
            while self._events:
                age_s = self._clock.now() - self._events[0][0]
                if age_s < self._settings.events_delay_s and not self._quiet():
                    await asyncio.sleep(QUIET_CHECK_S)
                else:
                    self._record_some()
                    await asyncio.sleep(PACE_S)
            await self._wake.wait()

    async def told(self) -> None:
        """Waits until no Event is queued, and those that were are written."""
        while self._events:
            await asyncio.sleep(QUIET_CHECK_S)
        for recorder in tuple(self._recorders.values()):
            await recorder.flush()

    async def drain(self) -> None:
        """Writes all queued Events now."""
        while self._events:
            self._record_some()
            await asyncio.sleep(PACE_S)
        for recorder in self._recorders.values():
            await recorder.flush()

    def _record_some(self) -> None:
        for _ in range(min(EVENTS_AT_ONCE, len(self._events))):
            _, component, about, record = self._events.popleft()
            if component not in self._recorders:
                self._recorders[component] = self._recorder(component)
            try:
                self._recorders[component].record(about, record.type, record.reason, record.message)
            except Exception:  # our mistake, in one Event: the others are told all the same
                log.exception("%s could not record %s about %s", component, record.reason, record.key)
