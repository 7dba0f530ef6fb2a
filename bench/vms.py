"""Virtual machines: how long they take to boot and to join, what they weigh, and how soon the VIP is clean when one loses its power.

For a host whose libvirt may be used; beside a libvirtd of its own: `make bench-vm`. Where machines are emulated all of it is about ten times slower.
"""

from __future__ import annotations

import time
from pathlib import Path

from bench.deaths import Rules, node_dies
from bench.figures import Report
from bench.footprint import look_at
from bench.lab import SLOW_S, BenchError, BenchLab, bench_lab, programs
from labctl.lab import providers

ROUNDS = 3


def measure(report: Report) -> None:
    with bench_lab() as lab:
        lab.environment["LABCTL_PROVIDER"] = "vagrant"
        lab.labctl("up", "--minions", "1", timeout_s=SLOW_S)  # the box is built, given to Vagrant, and read once
        _boots(lab, report)
        for _ in range(ROUNDS):
            lab.destroy()
            report.add("vm-up", lab.labctl("up", "--minions", "2", timeout_s=SLOW_S))
        report.add("vm-memory", [look_at(pid)[0] for pid in emulators(lab.lab.status()["lab"])])
        _deaths(lab, report)


def _boots(lab: BenchLab, report: Report) -> None:
    """By the provider alone, without a master, so that nobody joins the machine."""
    lab.labctl("halt", timeout_s=SLOW_S)
    provider = providers.make(lab.lab, "vagrant")
    for _ in range(ROUNDS):
        begun = time.monotonic()
        provider.reset("minion-1")  # type: ignore[attr-defined]
        report.add("vm-ssh", time.monotonic() - begun)


def _deaths(lab: BenchLab, report: Report) -> None:
    vip = lab.create_seed(SLOW_S)
    for _ in range(ROUNDS):
        lab.wait_ready(2, timeout_s=SLOW_S)
        for minion in ("minion-1", "minion-2"):
            lab.on(minion, "sync")  # what a disk loses with its power is not what is measured
        with programs(lab, ["minion-2"], "rules", vip) as running:
            out, replaced = node_dies(lab, Rules(running, own_clocks=True))
        report.add("vm-node-out", out)
        report.add("vm-node-replaced", replaced)
        lab.labctl("up", timeout_s=SLOW_S)


def emulators(lab: str) -> list[int]:
    """The QEMU processes of a lab's machines."""
    found = [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if f"guest={lab}-minion-" in _words(folder)]
    if not found:
        raise BenchError(f"no virtual machine of {lab} runs here")
    return found


def _words(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
