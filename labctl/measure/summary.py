"""What a person wants to know of a measurement: for each source how many requests failed and how, how long answers took, and how long there were none.

Latency is counted twice. From the intended start it contains the time in which a request had to wait for the source itself; from the real start it does not. The
first is what a user of the service would have felt; a large difference says that the source was late, not the service.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from labctl.measure.records import Measurement, Request


class Latency(msgspec.Struct, frozen=True):
    """Of requests that were answered well."""

    p50_s: float
    p99_s: float
    max_s: float


class Summary(msgspec.Struct, frozen=True):
    """One source's requests, or those of all. `failed` counts by outcome, without those that were not sent. None: there was no good answer."""

    source: str
    sent: int
    ok: int
    failed: Mapping[str, int]
    unsent: int
    from_intended: Latency | None
    from_started: Latency | None
    longest_gap_s: float
    answered_by: Mapping[str, int]

    @property
    def failures(self) -> int:
        return sum(self.failed.values())


def summaries(measurement: Measurement) -> list[Summary]:
    """Returns a summary for each source, in their order."""
    by_source: dict[str, list[Request]] = {source.name: [] for source in measurement.sources}
    for request in measurement.requests:
        by_source[request.source].append(request)
    return [_summary(name, requests, measurement) for name, requests in by_source.items()]


def _summary(name: str, requests: Sequence[Request], measurement: Measurement) -> Summary:
    outcomes = Counter(request.outcome for request in requests)
    good = [request for request in requests if request.outcome == "ok"]
    return Summary(
        name,
        len(requests) - outcomes["unsent"],
        len(good),
        {outcome: count for outcome, count in sorted(outcomes.items()) if outcome not in ("ok", "unsent")},
        outcomes["unsent"],
        _latency([request.ended_s - request.intended_s for request in good]),
        _latency([request.ended_s - request.started_s for request in good]),
        longest_gap_s(requests, measurement.began_s),
        dict(Counter(request.answered_by for request in good if request.answered_by).most_common()),
    )


def longest_gap_s(requests: Sequence[Request], began_s: float) -> float:
    """Returns the longest time without a good answer, from the beginning until nothing more was asked."""
    answers = sorted(request.ended_s for request in requests if request.outcome == "ok")
    last_s = max((request.intended_s for request in requests), default=began_s)
    edges = sorted([began_s, *answers, max(last_s, began_s)])
    return max(later - sooner for sooner, later in zip(edges, edges[1:], strict=False))


def percentile(ascending: Sequence[float], share: float) -> float:
    """Returns the smallest value that at least this share of the values do not exceed (nearest rank)."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def _latency(values: list[float]) -> Latency | None:
    values.sort()
    return Latency(percentile(values, 0.5), percentile(values, 0.99), values[-1]) if values else None
