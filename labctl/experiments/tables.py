"""A result in rows for people: each figure's median and spread, the verdicts, and the comparison of two results. Values only; cli/experiment.py prints them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from labctl.experiments import statistics
from labctl.experiments.figures import COUNT, FIGURES, SHARE
from labctl.experiments.result import Result, Verdict, cell_name

SHOWN = ("reaction", "repair", "recovery", "outage", "failed")


def number(figure: str, value: float | None) -> str:
    """Return a figure's value for people: milliseconds below ten seconds, else seconds; counts and shares as they are."""
    if value is None:
        return "-"
    kind = FIGURES[figure].kind
    if kind == COUNT:
        return f"{value:g}" if value == int(value) else f"{value:.1f}"
    if kind == SHARE:
        return f"{100 * value:.2f} %"
    return f"{value * 1000:.0f} ms" if abs(value) < 10 else f"{value:.1f} s"


def rows(result: Result, figures: Sequence[str] = SHOWN) -> list[tuple[str, ...]]:
    """Return a row for each cell and figure: CELL FIGURE MEDIAN, 95 % INTERVAL, IQR, RANGE, RUNS."""
    found: list[tuple[str, ...]] = []
    for cell in result.cells:
        runs = len(result.good_runs(cell))
        for figure in figures:
            values = result.values(cell, figure)
            summary = statistics.summary(values, int(result.facts.get("seed", 0)))
            count = f"{len(values)} of {runs}" if len(values) != runs else str(runs)
            if summary is None:
                found.append((cell_name(cell) or "-", figure, "-", "-", "-", "-", count))
                continue
            interval = (
                "-" if summary.low is None or summary.high is None else f"{number(figure, summary.low)} .. {number(figure, summary.high)}"
            )
            spread = f"{number(figure, summary.min)} .. {number(figure, summary.max)}"
            found.append(
                (cell_name(cell) or "-", figure, number(figure, summary.median), interval, number(figure, summary.iqr), spread, count)
            )
    return found


HEADINGS = ("CELL", "FIGURE", "MEDIAN", "95 % INTERVAL", "IQR", "RANGE", "RUNS")


def verdict_line(verdict: Verdict) -> str:
    """Return a verdict as a sentence: `holds: outage < 0.5 s (measured 0.213 s)`."""
    measured = (
        "nothing was measured"
        if verdict.measured is None
        else f"measured {verdict.measured:.4g}{f' {verdict.unit}' if verdict.unit else ''}"
    )
    where = f"{cell_name(verdict.cell)}: " if verdict.cell else ""
    return f"{where}{'holds' if verdict.holds else 'does not hold'}: {verdict.text} ({measured}{'; ' + verdict.why if verdict.why else ''})"


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one cell in two results. `slower`: B is shown to be worse, by more than the threshold."""

    cell: str
    figure: str
    comparison: statistics.Comparison | None
    slower: bool
    text: str


def compare(a: Result, b: Result, figures: Sequence[str], threshold: float) -> list[Compared]:
    """Compare the cells that both results have. `threshold` is a share of A's median that B may be above it before it counts as slower."""
    found = []
    for cell in a.cells:
        if cell not in b.cells:
            continue
        for figure in figures:
            comparison = statistics.compare(a.values(cell, figure), b.values(cell, figure))
            slower = comparison is not None and comparison.shown and comparison.difference > threshold * comparison.median_a
            text = _words(figure, comparison, threshold)
            found.append(Compared(cell=cell_name(cell), figure=figure, comparison=comparison, slower=slower, text=text))
    return found


def _words(figure: str, comparison: statistics.Comparison | None, threshold: float) -> str:
    if comparison is None:
        return "one of the results has no value"
    if not comparison.shown:
        few = min(comparison.count_a, comparison.count_b) < 4
        return f"no difference shown (p = {comparison.p_value:.2g}){': that takes at least 4 repetitions of each' if few else ''}"
    word = "worse" if comparison.difference > 0 else "better"
    share = f", {100 * comparison.difference / comparison.median_a:+.0f} %" if comparison.median_a else ""
    interval = f"95 % interval {number(figure, comparison.low)} .. {number(figure, comparison.high)}"
    within = ", within the threshold" if 0 < comparison.difference <= threshold * comparison.median_a else ""
    return f"B is {word} by {number(figure, abs(comparison.difference))}{share} ({interval}, p = {comparison.p_value:.2g}){within}"
