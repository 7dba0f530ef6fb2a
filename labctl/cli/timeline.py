"""The command `timeline`: what a fault led to, in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from labctl.cli.lifecycle import with_master
from labctl.cli.output import output_option, print_json, print_table
from labctl.cli.quantities import Namespace
from labctl.cli.words import echo, echo_line
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.measure.marks import Figures, Timeline


@click.command(
    epilog="""\b
Examples:
  labctl timeline minion-1-power-off-1
  labctl timeline machine/minion-2
  labctl timeline pod/web-7d4b9 -o json
"""
)
@click.argument("fault", metavar="FAULT|machine/NAME|pod/NAME")
@click.option("-n", "--namespace", type=Namespace(), default="default", help="the pod's namespace")
@click.option(
    "--measurement",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="requests that `labctl measure` saved; without it the newest saved ones that overlap the fault",
)
@output_option
def timeline(fault: str, namespace: str, measurement: Path | None, output: str) -> None:
    """Show what a fault led to: each step by its cause, with milliseconds since the fault, and what it cost the service.

    FAULT is the name of a fault (labctl fault list). machine/NAME is the last end of a machine, and pod/NAME the last time that a pod ended or was asked to
    leave, whoever caused it. docs/measuring.md defines the steps and the figures.
    """
    import msgspec

    from labctl.lab.timelines import newest_measurement, timeline_of
    from labctl.measure import records

    lab = with_master(Lab())
    told = timeline_of(lab, fault, namespace=namespace)
    path = measurement or newest_measurement(lab, told.fault)
    if path is not None:
        told = timeline_of(lab, fault, namespace=namespace, measurement=records.read(path))
    if output == "json":
        print_json({**msgspec.to_builtins(told), "measurement": str(path or "")})
        return
    _show(told)
    echo(f"Requests: {path}" if path else "No saved measurement overlaps this fault, so requests and outage are not known: labctl measure")


def _show(told: Timeline) -> None:
    from labctl.measure.noticed import NOTICED

    fault = told.fault
    if fault.type == NOTICED:
        echo_line(f"{fault.name}: nobody injected this fault through labctl, so time counts from when it was noticed.")
    else:
        peer = f" and {fault.peer}" if fault.peer else ""
        echo_line(f"fault {fault.name}: {fault.type} of {fault.target}{peer}")
    rows = []
    for mark in told.marks:
        unsure = f" ±{mark.uncertainty_s * 1000:.0f}" if mark.uncertainty_s >= 0.0005 else ""
        rows.append((f"{mark.at_s * 1000:+.1f}{unsure}", mark.what, mark.where, mark.by, mark.text))
    print_table(("MS", "WHAT", "WHERE", "BY", "TEXT"), rows)
    for line in _figures(told.figures):
        echo_line(line)


def _figures(figures: Figures) -> list[str]:
    times = [("reaction", figures.reaction_s), ("repair", figures.repair_s), ("recovery", figures.recovery_s), ("outage", figures.outage_s)]
    said = ", ".join(f"{name} {_ms(value)}" for name, value in times)
    lines = [f"{said} (±{figures.uncertainty_s * 1000:.1f} ms)"]
    if figures.requests is not None:
        lines.append(
            f"{figures.requests} requests: {figures.failed} failed, {figures.slow} slow, {figures.unsent} unsent; p50 {_ms(figures.p50_s)}, p99 {_ms(figures.p99_s)}"
        )
        gaps = ", ".join(f"{source} {_ms(gap)}" for source, gap in sorted(figures.longest_gap_s.items()))
        lines.append(f"longest time without a good answer: {gaps or 'nobody asked'}")
    return lines


def _ms(value_s: float | None) -> str:
    return "unknown" if value_s is None else f"{value_s * 1000:.1f} ms"
