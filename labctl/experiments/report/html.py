"""The report of an experiment as one HTML file: it needs no network, no program and no knowledge of labctl.

What a reader wants first stands first: the hypothesis, whether it held, and by how much. Then one run is shown in detail, then all runs, then what is
needed to judge and repeat it: definitions, facts, the file, the raw data. The page has no script, and its Content-Security-Policy forbids every request.
Everything that an experiment wrote is text from outside: Jinja2 escapes it, and labels in figures are shortened and cleaned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from labctl import assets
from labctl.errors import LabctlError
from labctl.experiments.figures import COUNT, FIGURES, SHARE
from labctl.experiments.report import canvas, colours, requests_figure, runs_figures, scenes, series
from labctl.experiments.report.canvas import NARROW, WIDE, clean
from labctl.experiments.report.rawdata import downloads
from labctl.experiments.report.requests_figure import time_text
from labctl.experiments.result import Cell, Result, Run, Verdict, cell_name
from labctl.experiments.statistics import Summary, summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_BYTES = 48 << 20  # no report is larger; browsers of phones give up not far above
_TABLE = ("reaction", "repair", "recovery", "outage", "longest_gap", "failed", "failed_share", "slow", "unsent", "p50", "p99")
_ALWAYS = ("reaction", "repair", "recovery", "outage")
_FACTS_MAX, _FACT_DEPTH_MAX, _TEXT_MAX = 300, 6, 200_000
_CELLS_MAX = 200  # rows of tables; figures have their own, smaller bounds


class Cost(msgspec.Struct, frozen=True):
    """One row of the table: a figure in one cell. Texts have their units; without a value they are a dash."""

    name: str
    meaning: str
    count: int
    median: str
    spread: str
    interval: str


class Picture(msgspec.Struct, frozen=True):
    """A figure in both layouts, with what stands below it."""

    svgs: tuple[str, ...]
    caption: str


class Detail(msgspec.Struct, frozen=True):
    """A cell's typical run: its pictures and the marks that are numbered in them."""

    cell: str
    run: Run
    whole: Picture
    close: Picture | None
    marks: Sequence[scenes.MarkText]


class Group(msgspec.Struct, frozen=True):
    """A cell's runs as small pictures."""

    cell: str
    picture: Picture


def html(result: Result) -> str:
    """Returns the report. Raises LabctlError if matplotlib is not installed or the report would be larger than MAX_BYTES."""
    import jinja2  # both imports are late: no other command needs them

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(assets.template("report")),
        autoescape=True,
        finalize=lambda value: canvas.visible(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(time=time_text, plus=plus_text, moment=moment_text)
    page = environment.get_template("report.html.j2").render(_page(result))
    if len(page) > MAX_BYTES:
        raise LabctlError(
            f"the report would have {len(page) >> 20} MiB, more than {MAX_BYTES >> 20}", mend="give fewer cells of the matrix"
        )
    return page


def _page(result: Result) -> dict[str, Any]:
    measured = [run.measurement for run in result.runs if run.measurement and not run.broken]
    pods = series.pods_of(measured)
    parts = downloads(result)
    return {
        "result": result,
        "cell_name": cell_name,
        "schemes": colours.ALL,
        "verdicts": [(verdict, measured_text(verdict)) for verdict in result.verdicts[:_CELLS_MAX]],
        "held": sum(verdict.holds for verdict in result.verdicts),
        "summary": _summary_sentence(result),
        "details": [detail for cell in result.cells[: runs_figures.MAX_CELLS] if (detail := _detail(result, cell, pods))],
        "cells_left_out": max(0, len(result.cells) - runs_figures.MAX_CELLS),
        "costs": [(cell_name(cell), costs(result, cell)) for cell in result.cells[:_CELLS_MAX]],
        "distribution": _distribution(result),
        "groups": list(_groups(result, pods)),
        "broken": [run for run in result.runs if run.broken][:_CELLS_MAX],
        "good": sum(not run.broken for run in result.runs),
        "expected": result.repetitions * len(result.cells),
        "sources": _sources(result),
        "facts": facts(result.facts),
        "files": [
            ("the experiment", shorten(result.experiment)),
            *((clean(path, 200), shorten(text)) for path, text in list(result.files.items())[:50]),
        ],
        "downloads": parts,
        "left_out": len([run for run in result.runs if run.measurement]) - sum(part.runs for part in parts),
    }


def costs(result: Result, cell: Cell) -> list[Cost]:
    """Returns the rows of the table for a cell: the four figures, and of the others those that any run has."""
    rows = []
    for name in _TABLE:
        found = summary(result.values(cell, name))
        if found or name in _ALWAYS:
            rows.append(_cost(name, found))
    return rows


def _cost(name: str, found: Summary | None) -> Cost:
    figure = FIGURES[name]
    label = name.replace("_", " ")
    if found is None:
        return Cost(label, figure.text, 0, "-", "-", "-")
    tell = _teller(name)
    interval = "-" if found.low is None or found.high is None else f"{tell(found.low)} to {tell(found.high)}"
    return Cost(label, figure.text, found.count, tell(found.median), f"{tell(found.min)} to {tell(found.max)}", interval)


def _teller(name: str) -> Callable[[float], str]:
    kind = FIGURES[name].kind if name in FIGURES else ""
    if kind == COUNT:
        return lambda value: f"{value:,.4g}" if value < 10_000 else f"{value:,.0f}"
    return (lambda value: f"{value:.2%}") if kind == SHARE else time_text


def measured_text(verdict: Verdict) -> str:
    """Returns what was measured for a hypothesis, in the unit that its file was written with."""
    if verdict.measured is None:
        return "no repetition has this figure"
    return f"{verdict.measured:.3g} {verdict.unit}".strip()


def _summary_sentence(result: Result) -> str:
    """Returns the outage in one sentence, for a result with a single cell; with more of them the table says it."""
    found = summary(result.values(result.cells[0], "outage")) if len(result.cells) == 1 else None
    if found is None:
        return ""
    times = "once" if found.count == 1 else f"{found.count} times"
    failed = result.values(result.cells[0], "failed")
    if failed and max(failed) == 0:
        return f"It was played {times}, and no request failed."
    text = f"It was played {times}. The outage lasted {time_text(found.median)}" + (" (median)" if found.count > 1 else "")
    if found.count > 1:
        text += f", at best {time_text(found.min)}, at worst {time_text(found.max)}"
    return text + "."


def _detail(result: Result, cell: Cell, pods: Sequence[str]) -> Detail | None:
    run = scenes.typical(result, cell)
    if run is None:
        return None
    key = f"run{list(result.cells).index(cell)}"
    name = cell_name(cell)
    where = f"Run {run.number}" + (f" of {name}" if name else "")
    whole = _scene_picture(scenes.whole(run, pods), key, f"{where}: everything that was measured.")
    near = scenes.close(run, pods)
    close = _scene_picture(near, key + "c", f"{where}: the moment of the fault, seen closely.") if near else None
    return Detail(name, run, whole, close, scenes.marks(run))


def _scene_picture(scene: scenes.Scene, key: str, caption: str) -> Picture:
    outcomes = scene.steps.outcomes if scene.steps else {}
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())) or "nothing was measured"
    label = f"{caption} From {plus_text(scene.from_s)} to {plus_text(scene.to_s)}. Requests: {told}. The list of marks below has the times."
    return _picture(key, label, caption, lambda layout: requests_figure.draw(scene, layout))


def _picture(key: str, label: str, caption: str, draw: Callable[[canvas.Layout], Figure]) -> Picture:
    svgs = []
    for layout in (WIDE, NARROW):
        with canvas.settings(layout, key):
            svgs.append(canvas.svg(draw(layout), f"{key}{layout.name[0]}", label, layout))
    return Picture(tuple(svgs), caption)


def _distribution(result: Result) -> Picture | None:
    if not runs_figures.has_distribution(result):
        return None
    caption = "Which share of the runs needed at most this time. A steep line: all runs were alike."
    return _picture("ecdf", caption + " The table has the numbers.", caption, lambda layout: runs_figures.distribution(result, layout))


def _groups(result: Result, pods: Sequence[str]) -> Iterator[Group]:
    """Yields small pictures of the runs of each cell, all on one scale; nothing if only one run was measured."""
    shown = [(cell, runs) for cell in result.cells[: runs_figures.MAX_CELLS] if (runs := runs_figures.small_runs(result, cell))]
    everything = [run for _, runs in shown for run in runs]
    if len(everything) < 2:
        return
    window = runs_figures.window(everything)
    for number, (cell, runs) in enumerate(shown):
        label = f"{len(runs)} runs: " + ", ".join(runs_figures.run_title(run) for run in runs)
        yield Group(
            cell_name(cell),
            _picture(f"all{number}", label, "", lambda layout, runs=runs: runs_figures.multiples(runs, pods, window, layout)),  # type: ignore[misc]
        )


def _sources(result: Result) -> list[str]:
    """Returns what has to be said about how requests were sent: where, how often, and whether each source kept its rate."""
    found = next((run.measurement for run in result.runs if run.measurement and not run.broken), None)
    if found is None:
        return []
    names = ", ".join(clean(source.name, 60) for source in found.sources[:12])
    each = "on a kept connection" if found.keepalive else "each on a new connection"
    said = [
        f"{found.rate:g} requests per second from each of {len(found.sources)} sources ({names}) to {clean(found.target, 100)} ({found.protocol}), {each}."
    ]
    late = sorted(
        {clean(source.name, 60) for run in result.runs if run.measurement for source in run.measurement.sources if not source.kept_up}
    )
    if late:
        said.append(
            f"Not every request could be sent when it was due: {', '.join(late[:12])} did not keep the rate, so latencies are at least as long as shown."
        )
    worst = max((source.clock_uncertainty_s for run in result.runs if run.measurement for source in run.measurement.sources), default=0.0)
    said.append(f"Clocks were compared to within {time_text(worst)}." if worst else "All times are from one clock.")
    return said


def facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns nested facts as lines, such as ("host.kernel", "6.1"): at most _FACTS_MAX, in their order."""
    found: list[tuple[str, str]] = []

    def walk(path: str, value: Any, depth: int) -> None:
        inner = list(value.items()) if isinstance(value, Mapping) else list(enumerate(value)) if isinstance(value, list | tuple) else []
        plain = not isinstance(value, Mapping) and all(isinstance(one, str | int | float | None) for _, one in inner)
        if len(found) >= _FACTS_MAX:
            return
        if inner and not plain and depth < _FACT_DEPTH_MAX:
            for key, one in inner[:_FACTS_MAX]:
                walk(".".join(filter(None, (path, clean(str(key), 60)))), one, depth + 1)
        elif inner:
            found.append((path, clean(", ".join(str(one) for _, one in inner[:20]), 300) if plain else "..."))
        else:
            found.append((path, clean(str(value), 300)))

    walk("", dict(values), 0)
    return found


def shorten(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else text[:_TEXT_MAX] + "\n... the rest is in the raw data"


def plus_text(seconds: float) -> str:
    """Returns a time after the fault with its sign: `+12 ms`, `-3.5 s`, `0`."""
    return "0" if seconds == 0 else ("+" if seconds > 0 else "−") + time_text(abs(seconds))


def moment_text(epoch_s: float) -> str:
    try:
        return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if epoch_s else "-"
    except (OverflowError, ValueError, OSError):
        return "-"
