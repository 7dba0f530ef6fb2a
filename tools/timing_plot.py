"""Draws docs/timing.svg: how long a silent minion goes unnoticed, against how often a living one is given up, for grace periods from 1 to 60 s.

    python -m tools.timing_plot                 draws it again: the same file, about two minutes
    python -m tools.timing_plot --table         prints the figures as a table

The figures come from labctl/sim/detector.py, whose docstring says what is simulated. A point at which nothing was found in the simulated time is hollow and stands
at three events in that time, which is the upper end of its 95 % confidence interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from labctl.sim.detector import DAY_S, YEAR_S, Detector, Network, rule

OUT = Path(__file__).parents[1] / "docs" / "timing.svg"
GRACES_S = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0)
PEERS = 2
NETWORKS = {
    "5 % loss, 200 ms jitter": Network(),
    "the master's link to one minion breaks, once a day for 10 s": Network(loss=0.001, jitter_s=0.001, cuts_a_day=1, cut_s=10.0),
    "a busy host: each minion stands still 10 times a day for 1 s": Network(loss=0.001, jitter_s=0.001, stalls_a_day=10, stall_s=1.0),
}
COLOURS = ("#1f6feb", "#d1730a", "#2c8a4b")


class Point(msgspec.Struct, frozen=True):
    """The figures of one grace period."""

    network: str
    peers: int
    grace_s: float
    outage_s: float
    alarms: float
    years: float

    @property
    def a_year(self) -> float:
        return (self.alarms or 3.0) / self.years


def points() -> Iterator[Point]:
    """Simulate every point of the plot."""
    for number, (name, network) in enumerate(NETWORKS.items()):
        for peers in (0, PEERS):
            for grace_s in GRACES_S:
                seconds = _long_enough_s(network, grace_s)
                detector = Detector(1000 * number + int(10 * grace_s) + peers, network, rule(grace_s, peers=peers))
                yield Point(name, peers, grace_s, detector.outage_s(), detector.false_alarms(seconds), seconds / YEAR_S)


def _long_enough_s(network: Network, grace_s: float) -> float:
    if network.loss < 0.01:
        return 10 * YEAR_S if grace_s >= 2 else 30 * DAY_S
    return YEAR_S if grace_s >= 2 else DAY_S


@click.command()
@click.option("--table", is_flag=True, help="print the figures as well")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=OUT, show_default=True)
def main(table: bool, out: Path) -> None:
    """Draw the plot of docs/timing.md."""
    found = []
    for point in points():
        found.append(point)
        if table:
            who = f"{point.peers} peers" if point.peers else "master alone"
            said = f"{point.a_year:14,.2f}" if point.alarms else f"  below {point.a_year:.2f}"
            click.echo(f"{point.network[:30]:30}  {who:12}  grace {point.grace_s:4.1f} s  outage {point.outage_s:5.1f} s  {said} a year")
    draw(found, out)


def draw(found: list[Point], out: Path) -> None:
    """Write the SVG. The same figures are the same file."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "labctl", "svg.fonttype": "none", "font.size": 10, "font.family": "sans-serif"})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.6))
    for (name, _), colour in zip(NETWORKS.items(), COLOURS, strict=True):
        for peers, style in ((0, "--"), (PEERS, "-")):
            line = [point for point in found if point.network == name and point.peers == peers]
            axes.plot([p.outage_s for p in line], [p.a_year for p in line], style, color=colour, linewidth=1.5)
            for hollow in (False, True):
                some = [p for p in line if (not p.alarms) == hollow]
                face = "white" if hollow else colour
                axes.plot([p.outage_s for p in some], [p.a_year for p in some], "o", color=colour, markerfacecolor=face, markersize=5)
        axes.plot([], [], "-", color=colour, label=name)
    axes.plot([], [], "k--", label="the master decides alone")
    axes.plot([], [], "k-", label=f"{PEERS} peers are asked too")
    axes.plot([], [], "ko", markerfacecolor="white", label="none found: the point is an upper bound")
    for grace_s, text in ((2.0, "--timing lab"), (40.0, "--timing kubernetes")):
        at = next(p.outage_s for p in found if p.grace_s == grace_s)
        axes.axvline(at, color="#888888", linewidth=0.8, linestyle=":")
        axes.annotate(f"{text}\ngrace {grace_s:.0f} s", (at, 3e6), fontsize=9, ha="center", va="top", backgroundcolor="white")
    axes.set(xscale="log", yscale="log", ylim=(0.05, 4e6))
    axes.set_xlabel("outage: seconds from a minion's end until it is given up (median; grace periods from 1 to 60 s)")
    axes.set_ylabel("false evictions of each minion in a year")
    ticks = (1, 2, 3, 5, 10, 20, 30, 50)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(True, color="#dddddd", linewidth=0.5)
    axes.legend(fontsize=8, loc="upper right", bbox_to_anchor=(0.99, 0.86), framealpha=1.0)
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
