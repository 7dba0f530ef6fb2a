"""The figures about several runs: the distribution of each of the four figures, cell by cell, and all runs as small pictures on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from labctl.experiments.report import colours, scenes, series
from labctl.experiments.report.canvas import Layout, clean, figure
from labctl.experiments.report.requests_figure import stack, time_text
from labctl.experiments.result import Cell, Result, Run, cell_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOUR = ("reaction", "repair", "recovery", "outage")
MAX_CELLS = 6  # as many lines as can be told apart
MAX_RUNS = 24
_DASHES: tuple[object, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 3)))


def has_distribution(result: Result) -> bool:
    """Returns whether any cell has two values of one of the four figures: less is no distribution."""
    return any(len(result.values(cell, name)) > 1 for cell in result.cells for name in FOUR)


def distribution(result: Result, layout: Layout) -> Figure:
    """Draws for each of the four figures which share of the runs was at least as quick (the empirical distribution); each cell is a line."""
    columns = 4 if layout.name == "wide" else 2
    drawing = figure(layout, 4 / columns * 1.75 + 0.25 + 0.16 * min(len(result.cells), MAX_CELLS) * (len(result.cells) > 1))
    axes = drawing.subplots(4 // columns, columns, sharey=True, squeeze=False).ravel()
    handles = []
    for one, name in zip(axes, FOUR, strict=True):
        handles = [_steps_up(one, result.values(cell, name), number, layout) for number, cell in enumerate(result.cells[:MAX_CELLS])]
        one.set_title(name)
        one.set_ylim(0, 1.04)
        one.set_yticks([0, 0.5, 1], ["0", "½", "all"])
        one.grid(axis="both")
        one.xaxis.set_major_formatter(lambda value, _at: time_text(value) if value else "0")
        one.locator_params(axis="x", nbins=3)
    axes[0].set_ylabel("share of runs")
    if len(result.cells) > 1:
        names = [clean(cell_name(cell), 44) for cell in result.cells[:MAX_CELLS]]
        drawing.legend(handles, names, loc="outside upper left", ncols=2 if layout.name == "wide" else 1, borderpad=0.4)
    return drawing


def _steps_up(axes: Axes, values: Sequence[float], number: int, layout: Layout):
    colour = colours.INK.light if layout.paper else colours.series(number).light
    ordered = sorted(values)
    shares = [(place + 1) / len(ordered) for place in range(len(ordered))]
    most = max(axes.dataLim.x1 if axes.has_data() else 0.0, ordered[-1] if ordered else 0.0)
    axes.set_xlim(0, most * 1.15 or 1.0)
    xs, ys = [*ordered[:1], *ordered, *([most * 10] if ordered else [])], [0.0, *shares, 1.0] if ordered else []
    (line,) = axes.step(xs, ys, where="post", color=colour, linestyle=_DASHES[number % len(_DASHES)], linewidth=1.4)
    axes.dataLim.x1 = most  # the line goes on to the right without end; the axis does not
    return line


def small_runs(result: Result, cell: Cell) -> list[Run]:
    """Returns the runs of a cell that get a small picture: those that counted and were measured. All cells together get about MAX_RUNS pictures."""
    measured = [run for run in result.good_runs(cell) if run.measurement and run.measurement.requests]
    return measured[: max(2, MAX_RUNS // max(1, len(result.cells)))]


def window(runs: Sequence[Run]) -> tuple[float, float]:
    """Returns the time that small pictures show: what a close look at each run would show."""
    parts = [scenes.close(run, ()) or scenes.whole(run, ()) for run in runs]
    return min(part.from_s for part in parts), max(part.to_s for part in parts)


def multiples(runs: Sequence[Run], pods: Sequence[str], window: tuple[float, float], layout: Layout) -> Figure:
    """Draws what became of the requests in each run, all on one scale of time and rate."""
    rows = -(-len(runs) // layout.columns)
    drawing = figure(layout, rows * 1.1 + 0.35)
    axes = drawing.subplots(rows, layout.columns, sharex=True, sharey=True, squeeze=False).ravel()
    top = 0.0
    for one, run in zip(axes, runs, strict=False):
        zero = series.zero_s(run.timelines, run.measurement)
        assert run.measurement
        part = tuple(request for request in run.measurement.requests if window[0] <= request.intended_s - zero <= window[1])
        stack(one, series.steps(msgspec.structs.replace(run.measurement, requests=part), zero, pods=pods), pods, layout)
        one.axvline(0, color=colours.INK.light, linewidth=1.0)
        one.set_title(run_title(run), color=colours.MUTED.light, fontsize=layout.font_pt - 0.5)
        top = max(top, one.get_ylim()[1])
    for one in axes[len(runs) :]:
        one.set_axis_off()
    axes[0].set_ylim(0, top)
    axes[0].set_xlim(*window)
    drawing.supxlabel(scenes.axis(runs[0]), fontsize=layout.font_pt)
    return drawing


def run_title(run: Run) -> str:
    outage = run.figures.get("outage")
    return f"run {run.number}" + (f": outage {time_text(outage)}" if outage is not None else "")
