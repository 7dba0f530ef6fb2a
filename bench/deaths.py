"""A pod's and a node's death: when its address leaves the VIP's rules on every minion, and when the replacement is in them."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import Any

from bench.figures import Report
from bench.lab import BenchError, BenchLab, Program, bench_lab, programs, wait

PODS = 7
NODES = 3


class Rules:
    """What every watched minion's rules for the VIP lead to, over time: by the probes' clock, or where machines have clocks of their own by ours."""

    def __init__(self, running: list[Program], *, own_clocks: bool = False) -> None:
        self._own_clocks = own_clocks
        self._seen: list[list[tuple[float, list[str]]]] = [[] for _ in running]
        for program, seen in zip(running, self._seen, strict=True):
            threading.Thread(target=self._read, args=(program, seen), daemon=True).start()

    def _read(self, program: Program, seen: list[tuple[float, list[str]]]) -> None:
        with contextlib.suppress(BenchError, ValueError):
            while True:
                said = json.loads(program.line())
                seen.append((time.monotonic() if self._own_clocks else said["at"], said["to"]))

    def settled(self, count: int) -> None:
        wait(lambda: all(seen and len(seen[-1][1]) == count for seen in self._seen), f"{count} addresses in all rules")

    def without(self, address: str, since: float) -> float:
        """When the last minion forgot the address."""
        return max(self._first(seen, since, lambda to: address not in to) for seen in self._seen)

    def with_all(self, count: int, address: str, since: float) -> float:
        """When the last minion had so many again, after it had forgotten the address."""
        times = []
        for seen in self._seen:
            gone = self._first(seen, since, lambda to: address not in to)
            times.append(self._first(seen, gone, lambda to: len(to) == count))
        return max(times)

    @staticmethod
    def _first(seen: list[tuple[float, list[str]]], since: float, true: Any) -> float:
        return wait(lambda: next((at for at, to in seen if at >= since and true(to)), 0.0), "the rules follow", 30)


def measure(report: Report) -> None:
    with bench_lab(2, "nginx") as lab:
        vip = lab.create_seed()
        with programs(lab, ["minion-1", "minion-2"], "rules", vip) as running:
            _pods(lab, Rules(running), report)
        for _ in range(NODES):
            with programs(lab, ["minion-2"], "rules", vip) as running:
                out, replaced = node_dies(lab, Rules(running))
            report.add("node-out", out)
            report.add("node-replaced", replaced)
            lab.labctl("up")


def _pods(lab: BenchLab, rules: Rules, report: Report) -> None:
    for _ in range(PODS):
        pod = lab.wait_ready(2)[0]
        rules.settled(2)
        address, name = pod["status"]["podIP"], pod["metadata"]["name"]
        begun = time.monotonic()
        lab.api.delete(f"/api/v1/namespaces/default/pods/{name}", {"gracePeriodSeconds": 0})
        report.add("pod-out", rules.without(address, begun) - begun)
        report.add("pod-replaced", rules.with_all(2, address, begun) - begun)


def node_dies(lab: BenchLab, rules: Rules) -> tuple[float, float]:
    """minion-1 goes off with one of the two pods; both pods are on minion-2 afterwards. Seconds until its address, and until its replacement."""
    for _ in range(10):
        on_first = [pod for pod in lab.wait_ready(2) if pod["spec"]["nodeName"] == "minion-1"]
        if on_first:
            break
        name = lab.pods()[0]["metadata"]["name"]
        lab.api.delete(f"/api/v1/namespaces/default/pods/{name}", {"gracePeriodSeconds": 0})
        time.sleep(0.5)
    else:
        raise BenchError("no pod was placed on minion-1")
    rules.settled(2)
    address, begun = on_first[0]["status"]["podIP"], time.monotonic()
    lab.lab.fault("power_off", "minion-1")
    return rules.without(address, begun) - begun, rules.with_all(2, address, begun) - begun
