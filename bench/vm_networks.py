"""The pod networks on virtual machines, each with a kernel of its own, beside the bare link between them: see networks.py, and vms.py for what it needs.

Emulated machines do each packet's work about ten times slower: what is left of the bare link is then what counts.
"""

from __future__ import annotations

from bench.figures import NETWORKS, ON_VMS, Report
from bench.lab import SLOW_S, bench_lab
from bench.networks import measure_one


def measure(report: Report) -> None:
    for network in NETWORKS:
        with bench_lab(None, "busybox") as lab:
            lab.environment["LABCTL_PROVIDER"] = "vagrant"
            lab.labctl("up", "--minions", "2", "--memory", "512M", "--network", network, timeout_s=SLOW_S)
            measure_one(report, lab, f"{ON_VMS}{network}", SLOW_S)
