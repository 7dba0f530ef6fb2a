"""One more Service among many: from asking the API until a connection to its VIP succeeds on both minions.

What is timed is the whole way: the write, the endpoints, the rules of two minions over SSH, a packet.
"""

from __future__ import annotations

import time
from typing import Any

from bench.figures import Report
from bench.lab import BenchError, BenchLab, Program, bench_lab, programs

PATH = "/api/v1/namespaces/default/services"
TRIES = 15


def measure(report: Report) -> None:
    with bench_lab(2, "nginx") as lab:
        lab.create_seed()
        there = 0
        with programs(lab, ["minion-1", "minion-2"], "reach") as probes:
            for count in (10, 100, 1000):
                for number in range(there, count):
                    lab.api.post(PATH, _service(f"many-{number}", f"10.247.{100 + number // 250}.{number % 250 + 1}"))
                there = count
                _until_reached(probes, f"10.247.{100 + (count - 1) // 250}.{(count - 1) % 250 + 1}", lambda: None)
                report.add(f"vip-{count}", [_one_more(lab, probes, count, number) for number in range(TRIES)])


def _one_more(lab: BenchLab, probes: list[Program], count: int, number: int) -> float:
    vip = f"10.247.{len(str(count))}.{number + 1}"
    took = _until_reached(probes, vip, lambda: lab.api.post(PATH, _service(f"more-{count}-{number}", vip)))
    time.sleep(0.05)  # the next one begins in peace
    return took * 1000


def _until_reached(probes: list[Program], vip: str, act: Any) -> float:
    for probe in probes:
        probe.tell(vip)
    for probe in probes:
        probe.line()
    begun = time.monotonic()
    act()
    times = [float(probe.line()) for probe in probes]
    if not all(times):
        raise BenchError(f"{vip} was never reached")
    return max(times) - begun


def _service(name: str, vip: str) -> dict[str, Any]:
    ports = [{"port": 80, "targetPort": 80}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"clusterIP": vip, "selector": {"name": "nginx"}, "ports": ports},
    }
