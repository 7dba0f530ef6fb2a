"""Hypotheses: `outage < 0.5 s`, `failed == 0`, `p95 of recovery <= 2 s`. Each is read from its text and judged on the repetitions of a cell.

    [STATISTIC of] FIGURE OPERATOR NUMBER [UNIT]

The statistic is over the repetitions: the median if none is given; a share or a time needs its unit, a count has none. A repetition in which a figure did
not happen (the service did not answer again while it was watched) can't be put on the right side of a bound: such a hypothesis does not hold, and says why.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

import msgspec

from labctl.experiments import statistics
from labctl.experiments.figures import COUNT, FIGURES, SHARE, UNITS
from labctl.experiments.result import Cell, Run, Verdict

_FORM = re.compile(r"(?:([a-z][a-z0-9]{0,20})\s+of\s+)?([a-z][a-z0-9_]{0,40})\s*(<=|>=|==|<|>)\s*(\d{1,12}(?:\.\d{1,12})?)\s*(\S{0,10})")
_HOW = "write a hypothesis as `outage < 0.5 s`, `failed == 0` or `p95 of recovery < 2 s`"

_UNTIL_SERVED = ("outage", "recovery")
NOT_BACK = "was not seen to recover within the load"


class Hypothesis(msgspec.Struct, frozen=True, kw_only=True):
    """A threshold. `when` restricts it to the cells that have these values; `bound` is in `unit`."""

    text: str
    statistic: str
    figure: str
    operator: str
    bound: float
    unit: str
    when: Cell = {}


def parse(text: str, when: Cell | None = None) -> Hypothesis:
    """Return the hypothesis that a text states. ValueError says what is wrong with it and what to write."""
    match = _FORM.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text[:100]!r} is no hypothesis: {_HOW}")
    statistic, name, operator, number, unit = match.groups()
    if name not in FIGURES:
        close = difflib.get_close_matches(name, FIGURES, 1)
        raise ValueError(f"unknown figure {name}: " + (f"did you mean {close[0]}?" if close else f"there are {', '.join(FIGURES)}"))
    if statistic and not statistics.known(statistic):
        raise ValueError(f"unknown statistic {statistic}: there are median, mean, min, max, and percentiles such as p95")
    kind = FIGURES[name].kind
    if unit not in UNITS[kind]:
        raise ValueError(f"{name} {operator} {number}{f' {unit}' if unit else ' has no unit'}: {_unit_mend(kind, name, operator, number)}")
    return Hypothesis(
        text=text.strip(), statistic=statistic or "median", figure=name, operator=operator, bound=float(number), unit=unit, when=when or {}
    )


def _unit_mend(kind: str, name: str, operator: str, number: str) -> str:
    if kind == COUNT:
        return f"{name} is a count, write `{name} {operator} {number}`"
    if kind == SHARE:
        return f"{name} is a share, write `{name} {operator} {number} %`"
    return f"{name} is a time, write `{name} {operator} {number} s` or another of {', '.join(UNITS[kind])}"


def judge(hypothesis: Hypothesis, cell: Cell, runs: Sequence[Run]) -> Verdict:
    """Return whether the hypothesis holds in this cell; `runs` are those that count."""
    values = [run.figures.get(hypothesis.figure) for run in runs]
    known = [value for value in values if value is not None]
    measured = (
        statistics.statistic(hypothesis.statistic, known) / UNITS[FIGURES[hypothesis.figure].kind][hypothesis.unit] if known else None
    )
    why = ""
    if not values:
        why = "no repetition counts"
    elif len(known) < len(values):
        why = _why_missing(hypothesis.figure, runs)
    holds = not why and measured is not None and _compare(measured, hypothesis.operator, hypothesis.bound)
    return Verdict(
        text=hypothesis.text,
        figure=hypothesis.figure,
        statistic=hypothesis.statistic,
        operator=hypothesis.operator,  # type: ignore[arg-type]
        bound=hypothesis.bound,
        unit=hypothesis.unit,
        measured=measured,
        holds=holds,
        cell=cell,
        why=why,
    )


def _why_missing(figure: str, runs: Sequence[Run]) -> str:
    """Return in how many repetitions there is no such figure, and for the first of them why: what its requests met, where the figure is about them."""
    missing = [run for run in runs if run.figures.get(figure) is None]
    requests, failed, outage = (missing[0].figures.get(name) for name in ("requests", "failed", "outage"))
    reason = "it did not happen while it was watched"
    if figure in _UNTIL_SERVED and outage is None:
        reason = "nothing was measured" if not requests else f"the service {NOT_BACK} ({failed or 0:.0f} of {requests:.0f} requests failed)"
        reason += "; a longer `duration` watches longer" if requests else ""
    return f"in {len(missing)} of {len(runs)} repetitions there is no {figure}: {reason}"


def _compare(measured: float, operator: str, bound: float) -> bool:
    comparisons = {"<": measured < bound, "<=": measured <= bound, ">": measured > bound, ">=": measured >= bound, "==": measured == bound}
    return comparisons[operator]
