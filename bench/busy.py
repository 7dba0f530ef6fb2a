"""The API's tail while the master is at its busiest: nine more minions boot, are pushed to and programmed, and one client keeps asking."""

from __future__ import annotations

import subprocess
import time

from bench.api import percentiles
from bench.figures import Report
from bench.lab import BenchError, bench_lab

MINIONS = 10
LONGEST_S = 120.0


def measure(report: Report) -> None:
    with bench_lab(1) as lab:
        path, taken = "/api/v1/nodes/minion-1", []
        lab.api.get(path)
        up = lab.begin("up", "--minions", str(MINIONS))
        begun = time.monotonic()
        try:
            while up.poll() is None and time.monotonic() - begun < LONGEST_S:
                asked = time.perf_counter()
                lab.api.get(path)
                taken.append((time.perf_counter() - asked) * 1000)
                time.sleep(0.001)  # one client that thinks for a moment, rather than a core that is burnt
            if up.wait(LONGEST_S):
                raise BenchError(f"up --minions {MINIONS} failed")
        except subprocess.TimeoutExpired:
            raise BenchError(f"up --minions {MINIONS} took too long") from None
        finally:
            up.kill()
            up.wait()
        p50, p99 = percentiles(taken)
        report.add("get-p99-busy", p99, f"p50 {p50:.1f} ms of {len(taken)} in {time.monotonic() - begun:.1f} s")
