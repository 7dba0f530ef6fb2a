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
                made = [lab.api.post(PATH, _service(f"many-{number}")) for number in range(there, count)]
                there = count
                _until_reached(probes, made[-1]["spec"]["clusterIP"], lambda: None)
                report.add(f"vip-{count}", [_one_more(lab, probes, count, number) for number in range(TRIES)])


def _one_more(lab: BenchLab, probes: list[Program], count: int, number: int) -> float:
    vip = f"10.247.0.{20 + len(str(count)) * TRIES + number}"  # of the part that is kept for who asks for an address
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


def _service(name: str, vip: str = "") -> dict[str, Any]:
    """Of nginx; `vip` is the address it asks for, so that the probes can try it before it is there."""
    spec = {"selector": {"name": "nginx"}, "ports": [{"port": 80, "targetPort": 80}], **({"clusterIP": vip} if vip else {})}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
