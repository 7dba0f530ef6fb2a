"""`python -m bench [--only NAME]... [--json FILE]`: measure, print the table, keep the JSON in bench/results/.

A name is a group or a figure of one; a group that fails is said so, and the others go on.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.figures import FIGURES, NETWORKS, ON_VMS, Measured, Report
from bench.lab import BenchError
from labctl.errors import LabctlError

GROUPS: dict[str, tuple[str, ...]] = {
    "start": ("help", "control-plane", "up", "rc-running"),
    "warm": ("up-create", "up-from", "restore", "snapshot-save", "snapshot-pause"),
    "deaths": ("pod-out", "pod-replaced", "node-out", "node-replaced"),
    "outage": ("failed-scale-down", "failed-drain", "failed-rolling", "failed-agent", "failed-master"),
    "faults": tuple(f.key for f in FIGURES if f.key.startswith("fault-")),
    "services": ("vip-10", "vip-100", "vip-1000"),
    "names": ("name-10", "name-1000", "name-rate", "name-rate-new"),
    "footprint": ("master-memory", "ssh-memory", "agent-memory", "master-cpu", "ssh-cpu", "agent-cpu"),
    "api": tuple(f.key for f in FIGURES if f.key.startswith(("get-", "create-", "list", "watch-", "rc-1000")) and f.key != "get-p99-busy"),
    "crds": tuple(f.key for f in FIGURES if f.key.startswith("crd-")),
    "scheduling": ("bind-plain", "bind-anti-affinity", "bind-spread"),
    "scale": ("scale-start", "scale-growth", "scale-deaths", "scale-rate", "scale-memory"),
    "busy": ("get-p99-busy",),
    "measuring": ("measure-cpu", "measure-cpu-kept", "measure-cpu-200", "measure-cpu-asyncio", "measure-late"),
    "rules": ("rules-full", "rules-repair"),
    "networks": tuple(f.key for f in FIGURES if f.key.startswith(tuple(f"{network}-" for network in NETWORKS))),
    "vms": ("vm-ssh", "vm-up", "vm-memory", "vm-node-out", "vm-node-replaced"),
    "warm_vms": ("vm-up-create", "vm-up-from", "vm-snapshot-save", "vm-snapshot-pause"),
    "vm_networks": tuple(f.key for f in FIGURES if f.key.startswith(tuple(f"{ON_VMS}{network}-" for network in NETWORKS))),
}
ASKED_FOR = ("faults", "vms", "warm_vms", "vm_networks")
"""Groups that need more than this machine surely has, or as long as all others together; they run when they are named."""
RESULTS = Path(__file__).parent / "results"
FAILURES = (BenchError, LabctlError, OSError, subprocess.SubprocessError)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description="What labctl claims about speed, measured.")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help=f"a group ({', '.join(GROUPS)}) or a figure; again for more"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the JSON here")
    arguments = parser.parse_args()
    groups = chosen(arguments.only)
    if not groups:
        parser.error(f"there is nothing called {', '.join(arguments.only)}; groups are {', '.join(GROUPS)}")
    if os.geteuid() != 0 and not set(groups) <= {"api", "crds", "scheduling", "scale", "measuring"}:
        parser.error("namespace machines need root; without it: --only api, --only crds, --only scheduling, --only scale, --only measuring")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that labs are destroyed on the way out
    report, failed, console = Report(), {}, Console()
    for group in groups:
        begun = time.monotonic()
        try:
            importlib.import_module(f"bench.{group}").measure(report)
        except FAILURES as error:
            failed[group] = f"{type(error).__name__}: {error}"
        console.print(
            f"{group}: {time.monotonic() - begun:.0f} s {failed.get(group, '')}", style="red" if group in failed else "dim", markup=False
        )
    console.print(table(report))
    write(report, failed, [path for path in (RESULTS / time.strftime("%Y%m%d-%H%M%S.json"), arguments.json) if path])
    return 1 if failed else 0


def chosen(names: list[str]) -> list[str]:
    """The groups to run; without names all but those that must be asked for."""
    if not names:
        return [group for group in GROUPS if group not in ASKED_FOR]
    return [group for group, keys in GROUPS.items() if group in names or set(keys) & set(names)]


def table(report: Report) -> Table:
    shown = Table("figure", title=f"labctl, {platform.machine()}, {os.cpu_count()} cores shared with what measures", title_justify="left")
    for column in ("value", "best", "aim"):
        shown.add_column(column, justify="right")
    shown.add_column("unit")
    shown.add_column("reached")
    for measured in report:
        shown.add_row(*row(measured))
    return shown


def row(measured: Measured) -> tuple[str, ...]:
    figure = measured.figure
    text = f"{figure.text} [dim]({measured.note})[/]" if measured.note else figure.text
    aim = "" if figure.aim is None else number(figure.aim)
    colour = {"yes": "green", "at best": "yellow", "no": "red"}.get(measured.reached, "default")
    return text, number(measured.value), number(measured.best), aim, figure.unit, f"[{colour}]{measured.reached}[/]"


def number(value: float) -> str:
    """Three figures that count."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def write(report: Report, failed: dict[str, str], paths: list[Path]) -> None:
    machine = {"system": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()}
    text = json.dumps({"at": time.time(), "machine": machine, "failed": failed, "figures": report.as_json()}, indent=1) + "\n"
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
