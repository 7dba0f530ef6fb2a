"""What a client notices: requests from a minion to the VIP that fail while pods, agents and the master come and go in order."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable

from bench.figures import Report
from bench.lab import BenchLab, bench_lab, programs

AFTER_S = 1.5
CLIENT = "minion-2"
MINIONS = ("minion-1", "minion-2")


def measure(report: Report) -> None:
    with bench_lab(2, "nginx") as lab:
        vip = lab.create_seed()
        lab.scale(4)
        lab.wait_ready(4)
        for key, what in (
            ("failed-scale-down", _scale_down),
            ("failed-drain", _drain),
            ("failed-rolling", _rolling),
            ("failed-agent", _kill_agents),
            ("failed-master", _kill_master),
        ):
            failed, note = _while_asking(lab, vip, what)
            report.add(key, failed, note)
            lab.scale(4)
            lab.wait_ready(4)


def _while_asking(lab: BenchLab, vip: str, what: Callable[[BenchLab], None]) -> tuple[int, str]:
    with programs(lab, [CLIENT], "ask", vip) as (client,):
        time.sleep(0.3)
        what(lab)
        time.sleep(AFTER_S)
        said = json.loads(client.finish()[-1])
    note = f"of {said['total']}; longest wait {said['longest_ms']} ms"
    return said["failed"], note + (f"; {said['errors'][0]}" if said["errors"] else "")


def _scale_down(lab: BenchLab) -> None:
    lab.scale(2)
    lab.wait_ready(2)


def _drain(lab: BenchLab) -> None:
    lab.kubectl("drain", "minion-1", "--ignore-daemonsets", "--timeout=60s")
    lab.wait_ready(4)
    lab.kubectl("uncordon", "minion-1")


def _rolling(lab: BenchLab) -> None:
    for pod in lab.wait_ready(4):
        lab.api.delete(f"/api/v1/namespaces/default/pods/{pod['metadata']['name']}")
        lab.wait_ready(4)


def _kill_agents(lab: BenchLab) -> None:
    for minion in MINIONS:
        lab.on(minion, "pkill -9 -f '[/]opt/labctl/agent run'")
    time.sleep(3)
    lab.wait_ready(4)


def _kill_master(lab: BenchLab) -> None:
    os.kill(lab.master["pid"], signal.SIGKILL)
    time.sleep(0.5)
    lab.__dict__.pop("api", None)
    lab.labctl("get", "nodes")  # a command that finds no master starts one
    time.sleep(3)
    lab.wait_ready(4)
