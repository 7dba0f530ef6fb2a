"""The clock is passed to whoever needs the time, so that tests can replace it. No room reads the system's clock by itself.

`now` is monotonic seconds (the asyncio loop's own time, so that a loop with virtual time moves both);
`wall` is seconds since the epoch, for timestamps that people and other programs read.
Waiting is `asyncio.sleep`: on a virtual loop it takes no time.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Returns monotonic seconds, on the same scale as the running loop's `time()`."""

    def wall(self) -> float:
        """Returns seconds since the epoch."""


class SystemClock:
    """Reads the machine's own clocks."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


_LAST_S = 253_402_300_799
"""The last second of the year 9999, which is as far as RFC 3339 goes."""


def rfc3339(wall_s: float) -> str:
    """Formats a metav1.Time, in whole seconds: `2026-01-02T15:04:05Z`."""
    return _rfc3339(int(wall_s))


@lru_cache(maxsize=64)
def _rfc3339(wall_s: int) -> str:
    return datetime.fromtimestamp(min(max(wall_s, 0), _LAST_S), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(wall_s: float) -> str:
    """Formats a metav1.MicroTime: `2026-01-02T15:04:05.000000Z`."""
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> float:
    """Returns seconds since the epoch. Raises ValueError if `text` is no RFC 3339 time."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
