"""Compares the clock of a source with the master's host's, as NTP does (RFC 5905, section 8): ask for the time, and note when the question left and the answer came.

The other clock showed its time somewhere between the two moments, so the middle is wrong by at most half of the round trip. Of many readings those with the
shortest trips are used. Two machines that share a kernel share CLOCK_MONOTONIC, and nothing is compared.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

MAX_READINGS = 20_000
_GOOD = 2.0  # readings whose trip took at most so many times the shortest one's are believed
_GOOD_S = 0.0002
_MAX_DRIFT = 500e-6  # NTP counts on no worse clock (RFC 5905: MAXFREQ)


class Reading(NamedTuple):
    """At `there_s` on the other clock ours was ahead by `offset_s`, more or less the uncertainty."""

    there_s: float
    offset_s: float
    uncertainty_s: float


class ClockComparison:
    """What is known about one other clock. `same`: it is ours."""

    def __init__(self, *, same: bool = False) -> None:
        self.same = same
        self._readings: list[Reading] = []
        self._good: list[Reading] = []

    def add(self, asked_s: float, there_s: float, answered_s: float) -> None:
        """Takes an answer: the question left at `asked_s` and the answer came at `answered_s`, both by our clock."""
        if len(self._readings) < MAX_READINGS:
            self._readings.append(Reading(there_s, (asked_s + answered_s) / 2 - there_s, (answered_s - asked_s) / 2))
            self._good = []

    def offset_s(self, there_s: float) -> float:
        """Returns what has to be added to the other clock's `there_s`: between two readings on the straight line through them."""
        good = self._believed()
        if not good:
            return 0.0
        index = bisect_left(good, there_s, key=lambda reading: reading.there_s)
        if index == 0 or index == len(good):
            return good[min(index, len(good) - 1)].offset_s
        before, after = good[index - 1], good[index]
        share = (there_s - before.there_s) / ((after.there_s - before.there_s) or 1.0)
        return before.offset_s + share * (after.offset_s - before.offset_s)

    @property
    def uncertainty_s(self) -> float:
        """Returns the largest error that an offset may have: of the readings, of a step of the other clock between two of them, and of its drift before
        the first and after the last that is believed."""
        good = self._believed()
        if not good:
            return 0.0
        step_s = max((abs(later.offset_s - sooner.offset_s) for sooner, later in zip(good, good[1:], strict=False)), default=0.0)
        beyond_s = max(good[0].there_s - self._readings[0].there_s, self._readings[-1].there_s - good[-1].there_s, 0.0)
        return max(reading.uncertainty_s for reading in good) + step_s + _MAX_DRIFT * beyond_s

    def _believed(self) -> list[Reading]:
        if self.same:
            return []
        if not self._good and self._readings:
            shortest = min(reading.uncertainty_s for reading in self._readings)
            bound = max(_GOOD * shortest, shortest + _GOOD_S)
            self._good = sorted(reading for reading in self._readings if reading.uncertainty_s <= bound)
        return self._good
