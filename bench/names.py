"""DNS on the minions: how soon a new Service's name resolves on both, and how many queries one minion answers.

What is timed is the whole way: the write, the names of two minions over SSH, a query to the virtual address that pods ask.
"""

from __future__ import annotations

import time
from typing import Any

from bench.figures import Report
from bench.lab import BenchError, BenchLab, Program, bench_lab, programs

PATH = "/api/v1/namespaces/default/services"
TRIES = 15
RATE_S = 3


def measure(report: Report) -> None:
    with bench_lab(2) as lab, programs(lab, ["minion-1", "minion-2"], "resolve") as probes:
        there = 0
        for count in (10, 1000):
            for number in range(there, count):
                lab.api.post(PATH, _service(f"many-{number}"))
            there = count
            _resolved(probes, f"many-{count - 1}", lambda: None)
            report.add(f"name-{count}", [_one_more(lab, probes, f"more-{count}-{number}") for number in range(TRIES)])
        report.add("name-rate", [_rate(probes[0], "many-7") for _ in range(3)])
        report.add("name-rate-new", [_rate(probes[0], "nobody-#") for _ in range(3)])


def _rate(probe: Program, name: str) -> float:
    probe.tell(f"rate {RATE_S} {name}.default.svc.cluster.local")
    return float(probe.line())


def _one_more(lab: BenchLab, probes: list[Program], name: str) -> float:
    took = _resolved(probes, name, lambda: lab.api.post(PATH, _service(name)))
    time.sleep(0.05)  # the next one begins in peace
    return took * 1000


def _resolved(probes: list[Program], name: str, act: Any) -> float:
    """Seconds from the act until the name has an address on the last minion."""
    for probe in probes:
        probe.tell(f"{name}.default.svc.cluster.local")
    for probe in probes:
        probe.line()
    begun = time.monotonic()
    act()
    times = [float(probe.line()) for probe in probes]
    if not all(times):
        raise BenchError(f"{name} never had an address")
    return max(times) - begun


def _service(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"selector": {"name": name}, "ports": [{"port": 80}]}}
