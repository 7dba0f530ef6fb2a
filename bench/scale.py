"""How much work a pod is for the control plane, in simulated labs of two sizes: `labctl sim --nodes N --pods P`, each in a process of its own.

Times are CPU time of that process: on a busy host they say more than the clock. LABCTL_BENCH_SCALE=500x15000 measures another size than 50 nodes and 1,500 pods; the
second lab has four times as many of both, so `scale-growth` says whether a pod of a larger lab costs more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.figures import Report
from bench.lab import BenchError

SIZE = "50x1500"
TIMES = 4
LIMIT_S = 3600.0
_CODE = """
import json, sys
import msgspec
from labctl.sim.scale import measure
from labctl.sim.settings import ScaleSettings
phases = measure(1, ScaleSettings(nodes=int(sys.argv[1]), pods=int(sys.argv[2])))
print(json.dumps(msgspec.to_builtins(phases)))
"""


def measure(report: Report) -> None:
    nodes, pods = _size(os.environ.get("LABCTL_BENCH_SCALE", SIZE))
    small, large = _phases(nodes, pods), _phases(nodes * TIMES, pods * TIMES)
    (_, started, died), more = small, large[1]
    report.add("scale-start", started["cpu_s"] / pods * 1000)
    report.add("scale-growth", (more["cpu_s"] / TIMES) / started["cpu_s"])
    report.add("scale-deaths", died["cpu_s"] / (pods / 10) * 1000)
    report.add("scale-rate", more["plans"] / more["cpu_s"])
    report.add("scale-memory", (large[1]["memory_bytes"] - started["memory_bytes"]) / (pods * (TIMES - 1)) / 1024)


def _size(text: str) -> tuple[int, int]:
    nodes, _, pods = text.partition("x")
    if not (nodes.isdecimal() and pods.isdecimal() and int(nodes) >= 10 and int(pods) >= 10):
        raise BenchError(f"LABCTL_BENCH_SCALE is {text!r}: write NODESxPODS, each at least 10, as in {SIZE}")
    return int(nodes), int(pods)


def _phases(nodes: int, pods: int) -> list[dict[str, Any]]:
    root = Path(__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-c", _CODE, str(nodes), str(pods)], capture_output=True, text=True, timeout=LIMIT_S, cwd=root, check=False
    )
    if ran.returncode:
        raise BenchError(f"{nodes} nodes and {pods} pods: {ran.stderr.strip().splitlines()[-1] if ran.stderr.strip() else ran.returncode}")
    phases: list[dict[str, Any]] = json.loads(ran.stdout)
    return phases
