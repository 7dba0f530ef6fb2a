"""What it costs to be there: resident memory and CPU of the master, its SSH process and an agent, when nothing happens."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from bench.figures import Report
from bench.lab import BenchError, BenchLab, bench_lab

SETTLE_S = 5.0
IDLE_S = 12.0
PODS = 20
LOOK = "pid=$(pgrep -o -f '[/]opt/labctl/agent run'); grep VmRSS /proc/$pid/status; cat /proc/$pid/task/*/schedstat | sed 's/^/cpu /'"


def measure(report: Report) -> None:
    with bench_lab(2, "busybox") as lab:
        lab.api.post("/api/v1/namespaces/default/replicationcontrollers", _sleepers())
        lab.wait_ready(PODS, "name=sleeper", 120)
        time.sleep(SETTLE_S)
        master = lab.master["pid"]
        looks = {"master": lambda: look_at(master), "ssh": lambda: look_at(ssh_process(master)), "agent": lambda: _look_on_minion(lab)}
        before = {name: (look()[1], time.monotonic()) for name, look in looks.items()}
        time.sleep(IDLE_S)
        for name, look in looks.items():
            memory, cpu_s = look()
            report.add(f"{name}-memory", memory)
            report.add(f"{name}-cpu", (cpu_s - before[name][0]) / (time.monotonic() - before[name][1]) * 100)


def look_at(pid: int) -> tuple[float, float]:
    """(resident MB, CPU seconds so far) of a process here."""
    folder = Path("/proc") / str(pid)
    return parse((folder / "status").read_text() + "".join("cpu " + p.read_text() for p in folder.glob("task/*/schedstat")))


def parse(text: str) -> tuple[float, float]:
    resident = re.search(r"VmRSS:\s+(\d+) kB", text)
    if not resident:
        raise BenchError("a process that is measured is not there")
    return int(resident[1]) / 1024, sum(int(ns) for ns in re.findall(r"^cpu (\d+)", text, re.M)) / 1e9


def ssh_process(master: int) -> int:
    """The master's child that does all SSH."""
    for task in Path(f"/proc/{master}/task").iterdir():
        for child in (task / "children").read_text().split():
            if b"labctl.remote" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    raise BenchError("the master has no SSH process")


def _look_on_minion(lab: BenchLab) -> tuple[float, float]:
    return parse(lab.on("minion-1", LOOK))


def _sleepers() -> dict[str, Any]:
    container = {"name": "c", "image": "busybox", "command": ["sleep", "100000"]}
    spec = {"nodeName": "minion-1", "terminationGracePeriodSeconds": 0, "containers": [container]}
    template = {"metadata": {"labels": {"name": "sleeper"}}, "spec": spec}
    return {"metadata": {"name": "sleepers"}, "spec": {"replicas": PODS, "selector": {"name": "sleeper"}, "template": template}}
