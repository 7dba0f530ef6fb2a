"""The figure of one run: what became of the requests, how long answers took, and when each minion and pod was ready and in use, above one axis of time.

Marks of the timeline are thin lines through all three, with the numbers that the list beside the figure explains.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labctl.experiments.report import colours
from labctl.experiments.report.canvas import Layout, clean, figure
from labctl.experiments.report.series import NOT_TOLD, OTHERS, Steps
from labctl.experiments.report.strips import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class MarkLine:
    """A mark as the figure shows it: where it is, its number in the list, and whether it is the fault itself or its end."""

    at_s: float
    number: int
    what: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Dot:
    """One request of a close-up: when it was due, how long its answer took, and the pod that gave it; "" for a failed request."""

    at_s: float
    took_s: float
    pod: str


@dataclass(frozen=True)
class Scene:
    """Everything that one figure of a run shows, between two moments."""

    steps: Steps | None
    dots: Sequence[Dot]
    rows: Sequence[Row]
    marks: Sequence[MarkLine]
    from_s: float
    to_s: float
    pods: Sequence[str]  # gives each pod its colour
    axis: str = "seconds after the fault"


def draw(scene: Scene, layout: Layout) -> Figure:
    """Returns the figure: the parts that the run has data for, one above the other."""
    heights = [0.16, *([1.6, 1.2] if scene.steps else []), *([0.15 * len(scene.rows) + 0.1] if scene.rows else [])]
    key = _key(scene) if layout.paper else []
    drawing = figure(layout, sum(heights) + 0.28 * len(heights) + 0.42 + 0.14 * (_legend_rows(scene, layout) + len(key)))
    axes = list(drawing.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    _mark_labels(axes[0], scene, layout)
    if scene.steps:
        _requests(drawing, axes[1], scene, scene.steps, layout)
        _latency(axes[2], scene, scene.steps, layout)
    if scene.rows:
        _strips(axes[-1], scene, layout)
    axes[-1].set_xlabel(scene.axis)
    if key:
        drawing.supxlabel("\n".join(key), x=0.01, ha="left", fontsize=layout.font_pt - 0.5)
    axes[-1].set_xlim(scene.from_s, scene.to_s)
    for one in axes[1:]:
        _mark_lines(one, scene.marks)
    return drawing


def colour_of(pod: str, pods: Sequence[str], layout: Layout) -> str:
    """Returns a pod's colour: the same one in each figure of a report."""
    if pod in (OTHERS, NOT_TOLD) and pod not in pods:
        return colours.MUTED.light
    number = list(pods).index(pod) if pod in pods else len(pods)
    return colours.GREYS[number % len(colours.GREYS)] if layout.paper else colours.series(number).light


def stack(axes: Axes, steps: Steps, pods: Sequence[str], layout: Layout) -> list[Any]:
    """Draws the rates above each other, failed requests on top and hatched; returns what a legend shows of each pod, and of failed requests if there are."""
    base = [0.0] * len(steps.failed)
    shown: list[Any] = []
    for pod, rates in steps.answered.items():
        top = [low + rate for low, rate in zip(base, rates, strict=True)]
        shown.append(axes.stairs(top, steps.edges_s, baseline=base, fill=True, linewidth=0, facecolor=colour_of(pod, pods, layout)))
        base = top
    top = [low + rate for low, rate in zip(base, steps.failed, strict=True)]
    look: dict[str, Any] = {"fill": True, "facecolor": "none", "edgecolor": colours.FAILED.light, "hatch": "////", "linewidth": 0.6}
    failed = [
        axes.stairs(top[first:last], steps.edges_s[first : last + 1], baseline=base[first:last], **look)
        for first, last in _runs_of(steps.failed)
    ]
    axes.set_ylim(0, max(top, default=0.0) * 1.05 or 1.0)
    return [*shown, *failed[:1]]


def _runs_of(values: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Yields the parts of the list without a zero, as first and last index (not included)."""
    first = None
    for number, value in enumerate([*values, 0.0]):
        if value and first is None:
            first = number
        elif not value and first is not None:
            yield first, number
            first = None


def _legend_columns(names: Sequence[str], layout: Layout) -> int:
    """Returns how many names have room beside each other; an estimate that no usual name is too wide for."""
    widest_pt = max(map(len, names), default=1) * layout.font_pt * 0.72 + 30
    return max(1, min(len(names), int(layout.width_in * 72 / widest_pt)))


def _legend_names(pods: Iterable[str], layout: Layout) -> list[str]:
    return [clean(name, 34 if layout.name == "wide" else 26) for name in (*pods, "failed")]


def _legend_rows(scene: Scene, layout: Layout) -> int:
    names = _legend_names(scene.steps.answered, layout) if scene.steps else []
    return -(-len(names) // _legend_columns(names, layout)) if names else 0


def _requests(drawing: Figure, axes: Axes, scene: Scene, steps: Steps, layout: Layout) -> None:
    handles = stack(axes, steps, scene.pods, layout)
    axes.set_title("requests/s, by the pod that answered")
    names = _legend_names(steps.answered, layout)[: len(handles)]
    columns = _legend_columns(names, layout)
    drawing.legend(handles, names, loc="outside upper left", ncols=columns, borderpad=0, handlelength=1.4, columnspacing=1.2)


def _latency(axes: Axes, scene: Scene, steps: Steps, layout: Layout) -> None:
    """Draws how long answers took, on a logarithmic axis: each request in a close-up, else the median and the slowest hundredth."""
    axes.set_yscale("log")
    axes.grid(axis="y")
    axes.yaxis.set_major_formatter(lambda value, _at: time_text(value))
    if scene.dots:
        axes.set_title("time to answer, each request; × failed")
        _dots(axes, scene, layout)
    else:
        axes.set_title("time to answer: median, dashed 99 %")
        nan, ink = float("nan"), colours.ACCENT.light
        axes.plot(steps.centres_s, [nan if v is None else v for v in steps.p99_s], color=ink, linewidth=0.8, linestyle=(0, (2, 1)))
        axes.plot(steps.centres_s, [nan if v is None else v for v in steps.median_s], color=ink, linewidth=1.2)
    axes.minorticks_off()
    low, high = axes.get_ylim()
    axes.set_ylim(low, max(high, low * 20))


def _dots(axes: Axes, scene: Scene, layout: Layout) -> None:
    size = 7.0 if layout.name == "wide" else 4.0
    markers = ("o", "s", "^", "D", "v", "P")
    for pod in dict.fromkeys(dot.pod for dot in scene.dots):
        mine = [dot for dot in scene.dots if dot.pod == pod]
        where = [dot.at_s for dot in mine], [max(dot.took_s, 1e-5) for dot in mine]
        if not pod:
            axes.scatter(*where, s=size * 2, marker="x", color=colours.FAILED.light, linewidths=0.8)
            continue
        number = list(scene.pods).index(pod) if pod in scene.pods else len(scene.pods)
        axes.scatter(*where, s=size, marker=markers[number % len(markers)], color=colour_of(pod, scene.pods, layout), linewidths=0)


def _strips(axes: Axes, scene: Scene, layout: Layout) -> None:
    """Draws a row for each minion and pod: a thin bar while it is ready, a thick one while it is in use too."""
    for number, row in enumerate(scene.rows):
        for span in row.spans:
            start, end = max(span.from_s, scene.from_s), min(span.to_s, scene.to_s)
            if start >= end:
                continue
            colour = colours.MUTED.light if row.kind == "minion" else colour_of(row.pod, scene.pods, layout)
            thick = {"off": 0.62, "ready": 0.22, "vip": 0.62}[span.state]
            look: dict[str, Any] = {"facecolor": colour, "edgecolor": "none"}
            if span.state == "off":
                look = {"facecolor": "none", "edgecolor": colours.FAILED.light, "hatch": "////", "linewidth": 0.6}
            axes.barh(number, end - start, left=start, height=thick, **look)
    axes.set_title("thin: ready; thick: in use;" + (" " if layout.name == "wide" else "\n") + "hatched: broken")
    most = 26 if layout.name == "wide" else 14
    axes.set_yticks(range(len(scene.rows)), [clean(row.name, most) for row in scene.rows])
    axes.set_ylim(max(1, len(scene.rows)) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _mark_lines(axes: Axes, marks: Sequence[MarkLine]) -> None:
    for mark in marks:
        if mark.strong:
            axes.axvline(mark.at_s, color=colours.INK.light, linewidth=1.2, zorder=3)
        else:
            axes.axvline(mark.at_s, color=colours.INK.light, linewidth=0.5, linestyle=(0, (1, 2)), zorder=3)


def _mark_labels(axes: Axes, scene: Scene, layout: Layout) -> None:
    """Writes the marks' numbers above the figure. Marks that are too near for labels of their own share one, such as `3-6`."""
    axes.set_axis_off()
    span, letter = scene.to_s - scene.from_s, layout.font_pt * 0.75 / 72 / (layout.width_in * (0.8 if layout.name == "wide" else 0.6))
    groups = _grouped(
        _visible(scene), lambda group, mark: (mark.at_s - group[0].at_s) / span < (len(_numbers([*group, mark])) + 1) * letter
    )
    for group in groups:
        weight = "bold" if any(mark.strong for mark in group) else "normal"
        axes.text(group[0].at_s, 0.0, _numbers(group), transform=axes.get_xaxis_transform(), va="bottom", fontweight=weight)


def _key(scene: Scene) -> list[str]:
    """Returns what the numbers mean, in lines of a column's width: paper has no list beside the figure."""
    groups = _grouped(_visible(scene), lambda group, mark: mark.what == group[0].what)
    said = "; ".join(f"{_numbers(group)} {group[0].what.replace('-', ' ')}" for group in groups)
    return textwrap.wrap(clean(said, 600), 58)


def _visible(scene: Scene) -> list[MarkLine]:
    return [mark for mark in scene.marks if scene.from_s <= mark.at_s <= scene.to_s]


def _grouped(marks: Sequence[MarkLine], belongs: Callable[[list[MarkLine], MarkLine], bool]) -> list[list[MarkLine]]:
    """Puts neighbours together as long as `belongs` says so of a group and the next mark."""
    groups: list[list[MarkLine]] = []
    for mark in marks:
        if groups and belongs(groups[-1], mark):
            groups[-1].append(mark)
        else:
            groups.append([mark])
    return groups


def _numbers(group: Sequence[MarkLine]) -> str:
    return str(group[0].number) if len(group) == 1 else f"{group[0].number}-{group[-1].number}"


def time_text(seconds: float) -> str:
    """Returns a time with a unit that leaves few digits: `8 ms`, `1.5 s`."""
    if abs(seconds) >= 0.9995:
        return f"{seconds:.3g} s"
    if abs(seconds) >= 0.0009995:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds * 1e6:.3g} µs"
