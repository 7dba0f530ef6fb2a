"""Counts the requests of a measurement around one fault: how many failed or were slow, and when the service answered everywhere again.

Pure functions. Times are those of the records: seconds of CLOCK_MONOTONIC on the master's host. A request concerns the fault if it was under way when the
fault began, or was intended later. Its latency counts from when it was intended, so that a client that waits hides nothing (coordinated omission).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

import msgspec

from labctl.measure.marks import FaultFacts, Mark
from labctl.measure.records import Measurement, Request
from labctl.measure.summary import percentile

SLOW_S = 0.1  # no answer that came within this time is slow,
SLOW_TIMES = 5  # nor one that took less than this many times the median before the fault
SAME_OUTAGE_S = 1.0  # a silence without failures that begins later than this after the service was back has another cause
SILENT_PERIODS = 10  # a source that gets no good answer for so many periods of its rate (and for SLOW_S) is not served


class Counted(msgspec.Struct, frozen=True, gc=False):
    """What the requests say about one fault. The names are those of Figures."""

    requests: int | None = None
    failed: int | None = None
    slow: int | None = None
    unsent: int | None = None
    outage_s: float | None = None
    longest_gap_s: Mapping[str, float] = {}
    p50_s: float | None = None
    p99_s: float | None = None
    uncertainty_s: float = 0.0


NOTHING = Counted()


def count(fault: FaultFacts, measurement: Measurement) -> Counted:
    """Count the requests that concern the fault."""
    concerned = [one for one in measurement.requests if _end(one) >= fault.injected_s]
    latencies = sorted(one.ended_s - one.intended_s for one in concerned if one.outcome == "ok")
    slow_s = _slow_bound(fault, measurement)
    silent_s = max(slow_s, SILENT_PERIODS / measurement.rate)
    by_source = _by_source(measurement.requests)
    outages = [_outage(fault, by_source[source.name], measurement.ended_s, silent_s) for source in measurement.sources]
    known = [outage for outage in outages if outage is not None]
    return Counted(
        requests=len(concerned),
        failed=sum(_failed(one) for one in concerned),
        slow=sum(latency > slow_s for latency in latencies),
        unsent=sum(one.outcome == "unsent" for one in concerned),
        outage_s=max(known) if known and len(known) == len(outages) else None,
        longest_gap_s={
            name: longest for name, requests in sorted(by_source.items()) if (longest := _longest_gap(fault, requests, measurement)) > 0
        },
        p50_s=percentile(latencies, 0.50) if latencies else None,
        p99_s=percentile(latencies, 0.99) if latencies else None,
        uncertainty_s=max((source.clock_uncertainty_s for source in measurement.sources), default=0.0),
    )


def answers(fault: FaultFacts, measurement: Measurement, ready: Mapping[str, float]) -> Iterator[Mark]:
    """Yield the first failure of each source, its first good answer after its last failure, and each source's first answer by a pod that became ready."""
    unsure = {source.name: source.clock_uncertainty_s for source in measurement.sources}
    for source, requests in sorted(_by_source(measurement.requests).items()):
        failed = [one for one in requests if _failed(one) and _end(one) >= fault.injected_s]
        if failed:
            first = min(failed, key=_end)
            yield _mark(fault, "first-failure", _end(first), source, first.outcome, "", unsure[source])
        again = _first_good(requests, max((one.intended_s for one in failed), default=None))
        if again is not None:
            yield _mark(fault, "first-answer", again.ended_s, source, again.answered_by, "", unsure[source])
        for pod in ready:
            name = pod.rpartition("/")[2]
            by_it = [
                one.ended_s
                for one in requests
                if one.answered_by == name and one.outcome == "ok" and one.ended_s >= fault.injected_s + ready[pod]
            ]
            if by_it:
                yield _mark(fault, "first-answer", min(by_it), source, name, pod, unsure[source])


def _mark(fault: FaultFacts, what: str, t: float, source: str, by: str, about: str, unsure_s: float) -> Mark:
    return Mark(at_s=round(t - fault.injected_s, 6) + 0.0, what=what, where=source, by=by, about=about, uncertainty_s=unsure_s)


def _by_source(requests: Sequence[Request]) -> Mapping[str, list[Request]]:
    found: dict[str, list[Request]] = defaultdict(list)
    for one in requests:
        found[one.source].append(one)
    return found


def _failed(one: Request) -> bool:
    return one.outcome not in ("ok", "unsent")


def _end(one: Request) -> float:
    return max(one.ended_s, one.intended_s)


def _slow_bound(fault: FaultFacts, measurement: Measurement) -> float:
    """Return the latency above which an answer is slow: it depends on what was usual before the fault."""
    before = [one.ended_s - one.intended_s for one in measurement.requests if one.outcome == "ok" and one.ended_s < fault.injected_s]
    return max(SLOW_S, SLOW_TIMES * median(before)) if before else SLOW_S


def _first_good(requests: Sequence[Request], last_failed_s: float | None) -> Request | None:
    if last_failed_s is None:
        return None
    good = [one for one in requests if one.outcome == "ok" and one.intended_s >= last_failed_s]
    return min(good, key=lambda one: one.ended_s, default=None)


def _outage(fault: FaultFacts, requests: Sequence[Request], end_s: float, silent_s: float) -> float | None:
    """Return how long after the fault this source is served again: no request fails any more, and it waits for no answer longer than `silent_s`.

    0 if it always was served, None if it never was again. A silence in which it did nothing, because it was not given the processor, is its own;
    and one that begins long after the service was back, and in which nothing failed, is no part of this outage.
    """
    failed = [one.intended_s for one in requests if _failed(one) and _end(one) >= fault.injected_s]
    served_s = fault.injected_s
    if failed:
        again = _first_good(requests, max(failed))
        if again is None:
            return None
        served_s = max(served_s, again.ended_s)
    for begin_s, until_s, closed in _gaps(fault, requests, end_s):
        if until_s - begin_s <= silent_s or _waited(requests, begin_s, until_s, silent_s) <= silent_s:
            continue
        if not closed:
            return None
        if begin_s <= served_s + SAME_OUTAGE_S:
            served_s = max(served_s, until_s)
    return served_s - fault.injected_s


def _waited(requests: Sequence[Request], begin_s: float, until_s: float, silent_s: float) -> float:
    """Return for how long, in a time without a good answer, one was waited for by a source that ran: from when the first request that was under
    way in it was sent, without the pauses in which the source began nothing and noticed nothing, as it was not given the processor.
    """
    under_way = [one for one in requests if begin_s < _end(one) and (one.started_s or _end(one)) <= until_s]
    asked_s = max(begin_s, min((one.started_s for one in under_way if one.started_s), default=until_s))
    ran = sorted({asked_s, until_s, *(at for one in under_way for at in (one.started_s, _end(one)) if asked_s < at < until_s)})
    return sum(later - earlier for earlier, later in itertools.pairwise(ran) if later - earlier <= silent_s)


def _longest_gap(fault: FaultFacts, requests: Sequence[Request], measurement: Measurement) -> float:
    return max((until_s - begin_s for begin_s, until_s, _ in _gaps(fault, requests, measurement.ended_s)), default=0.0)


def _gaps(fault: FaultFacts, requests: Sequence[Request], end_s: float) -> Iterator[tuple[float, float, bool]]:
    """Yield the times without a good answer that reach beyond the fault's begin, and whether an answer ended them. The last one ends with the requests."""
    if not requests:
        return
    good = sorted(one.ended_s for one in requests if one.outcome == "ok")
    begin_s = min(one.intended_s for one in requests)
    for moment in good:
        if moment >= fault.injected_s:
            yield begin_s, moment, True
        begin_s = moment
    last_s = min(end_s, max(_end(one) for one in requests))
    if last_s > begin_s and last_s >= fault.injected_s:
        yield begin_s, last_s, False
