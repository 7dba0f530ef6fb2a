"""How quickly things begin: the command, the control plane, two minions, two pods."""

from __future__ import annotations

import time

from bench.figures import Report
from bench.lab import SEED, bench_lab

ROUNDS = 5


def measure(report: Report) -> None:
    with bench_lab() as lab:
        lab.labctl("--help")  # the first one compiles
        report.add("help", [lab.labctl("--help") for _ in range(ROUNDS)])
        for _ in range(ROUNDS):
            report.add("control-plane", lab.labctl("up", "--minions", "0"))
            lab.labctl("destroy", "--yes")
    with bench_lab(2, "nginx") as lab:  # makes the root file system if need be
        for _ in range(ROUNDS):
            lab.destroy()
            report.add("up", lab.labctl("up", "--minions", "2"))
            begun = time.monotonic()
            lab.kubectl("create", "-f", str(SEED / "nginx-rc.yml"))
            lab.wait_ready(2)
            report.add("rc-running", time.monotonic() - begun, "kubectl's own start and the images' unpacking included")
