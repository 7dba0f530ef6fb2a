"""What a figure shows of one run, as plain lists of numbers: the requests in equal steps of time, and for each minion and pod when it was ready and in use.

The figures and the text of the report are made from these values. Nothing here draws, reads a file or knows a colour. All times are seconds after the
run's first fault (after the first request, if nothing was broken), so that runs can be laid over each other.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import msgspec

from labctl.measure.records import Measurement, Request
from labctl.measure.timeline import Timeline

OTHERS = "other pods"  # the pods beyond the number that a figure can tell apart by colour
NOT_TOLD = "answered"  # answers that did not say which pod they came from
MAX_PODS = 6
_STEPS = 160  # a figure has at most so many steps of time
_PER_STEP = 12  # and about so many requests in each
_WIDTHS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Steps(msgspec.Struct, frozen=True):
    """Requests in steps of time, each in the step in which it was due. Rates are requests per second; latencies count from the moment a request was due to
    the end of its answer, and are None in a step without a good answer."""

    edges_s: Sequence[float]  # where each step begins, and where the last one ends
    answered: Mapping[str, Sequence[float]]  # pod -> the rate of good answers, in the order of the pods' first answers
    failed: Sequence[float]
    median_s: Sequence[float | None]
    p99_s: Sequence[float | None]
    outcomes: Mapping[str, int]  # how many requests ended in which way

    @property
    def centres_s(self) -> list[float]:
        return [(start + end) / 2 for start, end in pairwise(self.edges_s)]


def zero_s(timelines: Sequence[Timeline], measurement: Measurement | None) -> float:
    """Returns the moment that a figure of the run calls 0, on the clock of the measurement."""
    injected = [timeline.fault.injected_s for timeline in timelines]
    return min(injected, default=measurement.began_s if measurement else 0.0)


def steps(measurement: Measurement, zero: float, *, pods: Sequence[str] = ()) -> Steps:
    """Returns the requests in steps. With `pods` these have the first places, so that one pod has one colour in several figures."""
    requests = measurement.requests
    edges = _edges_s([request.intended_s - zero for request in requests])
    widths = [end - start for start, end in pairwise(edges)]
    answered = {pod: [0.0] * len(widths) for pod in _shown_pods(requests, pods)}
    failed = [0.0] * len(widths)
    latencies: list[list[float]] = [[] for _ in widths]
    for request in requests:
        at = min(max(bisect_right(edges, request.intended_s - zero) - 1, 0), len(widths) - 1)
        if request.outcome != "ok":
            failed[at] += 1 / widths[at]
            continue
        pod = request.answered_by or NOT_TOLD
        answered[pod if pod in answered else OTHERS][at] += 1 / widths[at]
        latencies[at].append(request.ended_s - request.intended_s)
    for one in latencies:
        one.sort()
    medians, slowest = ([quantile(one, share) for one in latencies] for share in (0.5, 0.99))
    return Steps(edges, answered, failed, medians, slowest, Counter(request.outcome for request in requests))


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """Returns the smallest value that is not below this share of the ordered values; None of nothing."""
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))] if ordered else None


def pods_of(measurements: Iterable[Measurement]) -> list[str]:
    """Returns the pods that answered, in the order of their first answers."""
    seen: dict[str, None] = {}
    for measurement in measurements:
        for request in measurement.requests:
            if request.outcome == "ok":
                seen.setdefault(request.answered_by or NOT_TOLD)
    return list(seen)


def _shown_pods(requests: Sequence[Request], first: Sequence[str]) -> list[str]:
    seen = dict.fromkeys(request.answered_by or NOT_TOLD for request in requests if request.outcome == "ok")
    ordered = [pod for pod in first if pod in seen] + [pod for pod in seen if pod not in first]
    return ordered if len(ordered) <= MAX_PODS else [*ordered[: MAX_PODS - 1], OTHERS]


def _edges_s(times_s: Sequence[float]) -> list[float]:
    """Returns the edges of steps from the first time to the last: 0 is one of them, and a short step at an end belongs to its neighbour."""
    began, ended = min(times_s, default=0.0), max(times_s, default=0.0)
    ended += (ended - began) / max(1, len(times_s) - 1)  # the last request stands for the time until the next would have been due
    width = _width_s(ended - began, len(times_s))
    inner = [number * width for number in range(math.floor(began / width) + 1, math.ceil(ended / width))]
    inner = [edge for edge in inner if edge - began > width / 2 and ended - edge > width / 2]
    return [began, *inner, ended if ended > began else began + width]


def _width_s(span_s: float, requests: int) -> float:
    """Returns a width that is easy to read, leaves at most _STEPS steps, and puts enough requests into each that their number is no matter of luck."""
    least = max(span_s / _STEPS, span_s * _PER_STEP / max(requests, 1))
    return next((width for width in _WIDTHS_S if width >= least), least)
