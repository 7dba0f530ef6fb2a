"""For each minion and pod of a run: when it was ready, when it was in use, and when a fault acted on it, as spans of time.

The spans follow from the timeline's marks. A pod without a mark that says otherwise was there from the beginning if it answered before it could have been
replaced. A pod is in use (in the virtual IP's rules) from the first minion whose rules lead to it to the last one whose rules do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from labctl.journal import read_came_and_went
from labctl.measure.records import Measurement
from labctl.measure.timeline import Mark, Timeline

MAX_ROWS = 24
_LOST = ("known", "evicted", "endpoint-removed")  # after such a mark about it, a pod is ready no longer

State = Literal["ready", "vip", "off"]


class Span(msgspec.Struct, frozen=True):
    state: State
    from_s: float
    to_s: float


class Row(msgspec.Struct, frozen=True):
    """One minion or pod. `pod` is the pod's name without its namespace, as answers have it."""

    name: str
    kind: Literal["minion", "pod"]
    pod: str
    spans: tuple[Span, ...]


def rows(timelines: Sequence[Timeline], measurement: Measurement | None, zero: float, from_s: float, to_s: float) -> list[Row]:
    """Returns the rows of one run, minions first; at most MAX_ROWS."""
    marks = sorted(
        (
            msgspec.structs.replace(mark, at_s=mark.at_s + timeline.fault.injected_s - zero)
            for timeline in timelines
            for mark in timeline.marks
        ),
        key=lambda mark: mark.at_s,
    )
    minions = [_minion(name, timelines, marks, zero, from_s, to_s) for name in _minions(timelines, marks)]
    answers = _first_and_last(measurement, zero)
    pods = dict.fromkeys([*answers, *(pod for mark in marks for pod in _pods(mark))])
    return [*minions, *(_pod_row(name, marks, answers.get(name), from_s, to_s) for name in pods)][:MAX_ROWS]


def _minions(timelines: Sequence[Timeline], marks: Iterable[Mark]) -> list[str]:
    named = [name for timeline in timelines for name in (timeline.fault.target, timeline.fault.peer)]
    named += [mark.where for mark in marks if mark.what not in ("first-failure", "first-answer")]  # these have sources of requests
    return sorted({name for name in named if name and "/" not in name and name != "master"}, key=_by_number)


def _by_number(name: str) -> tuple[str, int, str]:
    stem = name.rstrip("0123456789")
    digits = name[len(stem) :][:9]
    return stem, int(digits or 0) if digits.isascii() else 0, name


def _minion(name: str, timelines: Sequence[Timeline], marks: Sequence[Mark], zero: float, from_s: float, to_s: float) -> Row:
    hit = [t.fault for t in timelines if name in (t.fault.target, t.fault.peer)]
    off = [Span("off", fault.injected_s - zero, to_s if fault.healed_s is None else fault.healed_s - zero) for fault in hit]
    spans: list[Span] = []
    at = from_s
    for span in sorted(off, key=lambda span: span.from_s):
        spans += [Span("vip", at, span.from_s), span]
        at = max(at, span.to_s)
    return Row(name, "minion", "", (*spans, Span("vip", at, to_s)))


def _pod_row(name: str, marks: Sequence[Mark], answered: tuple[float, float] | None, from_s: float, to_s: float) -> Row:
    mine = [mark for mark in marks if name in _pods(mark)]
    began = next((mark.at_s for mark in mine if mark.what in ("decided", "started", "ready")), to_s)
    lost = next((mark.at_s for mark in mine if mark.what in _LOST), to_s)
    there = (answered is not None and answered[0] < began) or lost < began
    spans = [*_ready_spans(mine, there, from_s, to_s), *_used_spans(mine, there, from_s, to_s)]
    return Row(name, "pod", name, tuple(spans))


def _ready_spans(mine: Sequence[Mark], there: bool, from_s: float, to_s: float) -> list[Span]:
    spans, since = [], from_s if there else None
    for mark in mine:
        if mark.what == "ready" and since is None:
            since = mark.at_s
        elif mark.what in _LOST and since is not None:
            spans.append(Span("ready", since, mark.at_s))
            since = None
    return spans if since is None else [*spans, Span("ready", since, to_s)]


def _used_spans(mine: Sequence[Mark], there: bool, from_s: float, to_s: float) -> list[Span]:
    """Returns when rules led to the pod: until the last minion confirmed that its rules do no more."""
    spans: list[Span] = []
    since, removed = from_s if there else None, None
    for mark in mine:
        if mark.what == "in-vip" and since is None:
            since, removed = mark.at_s, None
        elif mark.what == "endpoint-removed":
            removed = mark.at_s
        elif mark.what == "rules" and since is not None:
            spans.append(Span("vip", since, mark.at_s))
            since = None
        elif mark.what == "rules" and spans:
            spans[-1] = Span("vip", spans[-1].from_s, mark.at_s)
    return spans if since is None else [*spans, Span("vip", since, to_s if removed is None else removed)]


def _pods(mark: Mark) -> list[str]:
    """Returns the names, without namespaces, of the pods that a mark is about: its object, or the endpoints (`ADDRESS POD`) in its text."""
    if mark.about.startswith("pods/"):
        return [mark.about.rpartition("/")[2]]
    if mark.what == "endpoint-removed":
        endpoints = read_came_and_went(mark.text)[1]
    elif mark.what in ("rules", "in-vip"):
        endpoints = tuple(re.sub("^sends (nothing )?to ", "", mark.text).split(", "))
    else:
        return []
    return [pod for endpoint in endpoints if (pod := endpoint.partition(" ")[2])]


def _first_and_last(measurement: Measurement | None, zero: float) -> dict[str, tuple[float, float]]:
    """Returns for each pod when its first and its last answer ended."""
    found: dict[str, tuple[float, float]] = {}
    for request in measurement.requests if measurement else ():
        if request.outcome == "ok" and request.answered_by:
            at = request.ended_s - zero
            first, last = found.get(request.answered_by, (at, at))
            found[request.answered_by] = (min(first, at), max(last, at))
    return found
