"""Chooses what the figures of a report show: which run stands for a cell, which part of it is looked at closely, and what is marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args, get_type_hints

import msgspec

from labctl.experiments.report import series, strips
from labctl.experiments.report.requests_figure import Dot, MarkLine, Scene
from labctl.experiments.result import Cell, Result, Run
from labctl.experiments.schema import Step
from labctl.measure.timeline import Mark, Timeline

_DOTS_MAX = 1_500
_MARKS_MAX = 60
_ACTIONS = get_args(get_type_hints(Step)["action"])
_MARGIN = 0.3  # of a close-up, on both sides, as a share of what it is about


class MarkText(msgspec.Struct, frozen=True):
    """A mark with its number in the figure, for the list beside it. `uncertainty_s` is 0 where the master's own clock told the time."""

    number: int
    at_s: float
    what: str
    where: str
    by: str
    text: str
    uncertainty_s: float


def typical(result: Result, cell: Cell, figure: str = "outage") -> Run | None:
    """Returns the repetition of a cell that stands for the others: the one whose outage is nearest to the middle."""
    good = [run for run in result.good_runs(cell) if run.timelines or run.measurement]
    if not good:
        return None
    told = sorted((run for run in good if run.figures.get(figure) is not None), key=lambda run: (run.figures[figure] or 0.0, run.number))
    return told[(len(told) - 1) // 2] if told else good[0]


def marks(run: Run) -> list[MarkText]:
    """Returns the marks of a run's timelines, the earliest first, at most _MARKS_MAX."""
    zero = series.zero_s(run.timelines, run.measurement)
    found = [(timeline.fault.injected_s - zero + mark.at_s, mark, timeline) for timeline in run.timelines for mark in timeline.marks]
    found.sort(key=lambda one: one[0])
    return [_text_of(number, at, mark, timeline) for number, (at, mark, timeline) in enumerate(found[:_MARKS_MAX], 1)]


def _text_of(number: int, at_s: float, mark: Mark, timeline: Timeline) -> MarkText:
    """Returns a mark for the list. Of the fault itself the list says what it was; everybody knows by whom."""
    ours = mark.what in ("injected", "healed")
    by, text = ("", timeline.fault.type) if ours else (mark.by, mark.text)
    return MarkText(number, at_s, mark.what, mark.where or mark.about, by, text, mark.uncertainty_s)


def axis(run: Run) -> str:
    """Returns what the axis of time is called: it begins with the run's first fault, or with an action such as a rolling update."""
    first = min(run.timelines, key=lambda one: one.fault.injected_s, default=None)
    if first is None:
        return "seconds after the first request"
    return "seconds after the action" if first.fault.type in _ACTIONS else "seconds after the fault"


def whole(run: Run, pods: Sequence[str]) -> Scene:
    """Returns the run from its first request to its last, or from its first mark to its last where nothing was measured."""
    zero = series.zero_s(run.timelines, run.measurement)
    times = [mark.at_s for mark in marks(run)]
    if run.measurement and run.measurement.requests:
        times = [request.intended_s - zero for request in run.measurement.requests]
    from_s, to_s = (min(times), max(times)) if times else (0.0, 1.0)
    return _scene(run, pods, from_s, max(to_s, from_s + 0.001), dots=False)


def close(run: Run, pods: Sequence[str]) -> Scene | None:
    """Returns the part from the fault to the last mark before its healing, request by request; None where it is most of the run anyway."""
    at = [mark.at_s for mark in marks(run) if mark.what != "healed"]
    if len(at) < 2 or not run.measurement:
        return None
    margin = max((max(at) - min(at)) * _MARGIN, 0.02)
    everything = whole(run, pods)
    from_s, to_s = max(min(at) - margin, everything.from_s), min(max(at) + margin, everything.to_s)
    if to_s <= from_s or (to_s - from_s) > 0.6 * (everything.to_s - everything.from_s):
        return None
    return _scene(run, pods, from_s, to_s, dots=True)


def _scene(run: Run, pods: Sequence[str], from_s: float, to_s: float, *, dots: bool) -> Scene:
    zero = series.zero_s(run.timelines, run.measurement)
    steps, shown = None, []
    if run.measurement and run.measurement.requests:
        part = [request for request in run.measurement.requests if from_s <= request.intended_s - zero <= to_s]
        if part:
            steps = series.steps(msgspec.structs.replace(run.measurement, requests=tuple(part)), zero, pods=pods)
        if dots and len(part) <= _DOTS_MAX:
            shown = [
                Dot(
                    request.intended_s - zero,
                    _took_s(request.intended_s, request.ended_s),
                    (request.answered_by or series.NOT_TOLD) if request.outcome == "ok" else "",
                )
                for request in part
            ]
    lines = [MarkLine(mark.at_s, mark.number, mark.what, mark.what in ("injected", "healed")) for mark in marks(run)]
    return Scene(steps, shown, strips.rows(run.timelines, run.measurement, zero, from_s, to_s), lines, from_s, to_s, pods, axis(run))


def _took_s(intended_s: float, ended_s: float) -> float:
    return max(0.0, ended_s - intended_s) if ended_s else 0.0
