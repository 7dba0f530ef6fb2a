"""Tells the open pages the seconds of a measurement that runs, as `labctl measure` tells them to the master."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from labctl.clock import Clock
from labctl.dash.feed import Feed
from labctl.measure.live import Tick

EVERY_S, SHOWN_S, TICKS_MAX = 1.0, 60.0, 60


class Requests:
    """`recent(since)` returns the ticks after that time, the oldest first. `run` is one of the master's long-lived tasks."""

    def __init__(self, feed: Feed, recent: Callable[[float], Sequence[Tick]], clock: Clock) -> None:
        self._feed = feed
        self._recent = recent
        self._clock = clock
        self._last_s = -1.0

    async def run(self) -> None:
        """Runs until it is cancelled. Each message has the whole minute, so that a page that was just opened, or missed one, draws it all."""
        while True:
            await self._feed.somebody_looks()
            ticks = self._recent(self._clock.now() - SHOWN_S)[-TICKS_MAX:]
            newest_s = ticks[-1].at_s if ticks else -1.0
            if ticks and (newest_s != self._last_s or self._feed.opened_since_asked()):
                self._last_s = newest_s
                self._feed.tell("requests", ticks)
            await asyncio.sleep(EVERY_S)
