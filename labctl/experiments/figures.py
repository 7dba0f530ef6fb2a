"""The figures that a hypothesis can be about: their names, what they measure, and how they follow from one repetition.

Times are kept in seconds, counts as numbers and shares as parts of 1. The four figures of availability (reaction, repair, recovery, outage) are defined in
docs/measuring.md. If a timeline has several faults, a figure is the worst of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from labctl.experiments.units import SHARES, TIMES
from labctl.measure.records import Measurement
from labctl.measure.timeline import Timeline

TIME, COUNT, SHARE = "time", "count", "share"
UNITS = {TIME: TIMES, COUNT: {"": 1.0}, SHARE: SHARES}


class Figure(msgspec.Struct, frozen=True):
    """A figure: `kind` is time, count or share; `text` says in one sentence what it is."""

    name: str
    kind: str
    text: str


FIGURES = {
    figure.name: figure
    for figure in (
        Figure("reaction", TIME, "from the fault to the first reaction of the control plane"),
        Figure("repair", TIME, "from the reaction until what was lost is replaced and ready"),
        Figure("recovery", TIME, "from the reaction until the service answers everywhere again"),
        Figure("outage", TIME, "from the fault until the service answers everywhere again"),
        Figure("longest_gap", TIME, "the longest time in which one source had no good answer"),
        Figure("requests", COUNT, "requests that the rate demanded"),
        Figure("failed", COUNT, "requests without a good answer"),
        Figure("failed_share", SHARE, "requests without a good answer, of all"),
        Figure("slow", COUNT, "requests that were answered late"),
        Figure("unsent", COUNT, "requests that no source could send in time"),
        Figure("p50", TIME, "half of the good answers came within this time"),
        Figure("p99", TIME, "99 % of the good answers came within this time"),
        Figure("uncertainty", TIME, "how exactly the clocks could be compared"),
    )
}


def figures(timelines: Sequence[Timeline], measurement: Measurement | None) -> dict[str, float | None]:
    """Return every figure of one repetition. None: it did not happen while it was observed, or nobody measured it."""
    found: dict[str, float | None] = {}
    for name in ("reaction", "repair", "recovery", "outage", "p50", "p99", "uncertainty"):
        found[name] = _worst([getattr(timeline.figures, f"{name}_s") for timeline in timelines])
    for name in ("requests", "failed", "slow", "unsent"):
        found[name] = _worst([getattr(timeline.figures, name) for timeline in timelines])
    gaps = [gap for timeline in timelines for gap in timeline.figures.longest_gap_s.values()]
    found["longest_gap"] = max(gaps, default=None)
    found["failed_share"] = None
    if measurement is not None:
        requests = len(measurement.requests)
        bad = sum(request.outcome not in ("ok", "unsent") for request in measurement.requests)
        found["requests"], found["failed"] = float(requests), float(bad)
        found["unsent"] = float(sum(request.outcome == "unsent" for request in measurement.requests))
        found["failed_share"] = bad / requests if requests else None
    return found


def _worst(values: Sequence[float | None]) -> float | None:
    """Return the largest value. One that did not happen is worse than any that did."""
    known = [float(value) for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None
