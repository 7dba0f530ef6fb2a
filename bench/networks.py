"""What each pod network costs: from a pod to one on another minion, and to it by a virtual address, beside the bare link between the two minions."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from bench.figures import NETWORKS, Report
from bench.lab import BenchLab, bench_lab, wait

ROUNDS = 3
POD_PORT, LINK_PORT = 9000, 9001


def measure(report: Report) -> None:
    for network in NETWORKS:
        with bench_lab(None, "busybox") as lab:
            lab.labctl("up", "--minions", "2", "--cpus", "2", "--network", network, timeout_s=900)
            measure_one(report, lab, network)


def measure_one(report: Report, lab: BenchLab, network: str, timeout_s: float = 60) -> None:
    """`network` begins the figures' names."""
    uids = {}
    for number in (1, 2):
        uids[number] = lab.api.post("/api/v1/namespaces/default/pods", _pod(number))["metadata"]["uid"]
    lab.wait_ready(2, "name=flow", timeout_s)
    service = lab.api.post("/api/v1/namespaces/default/services", _service())
    address = {pod["spec"]["nodeName"]: pod["status"]["podIP"] for pod in lab.ready("name=flow")}["minion-2"]
    ways = {
        "link": ("-", "10.245.1.12", LINK_PORT),
        "pod": (uids[1], address, POD_PORT),
        "vip": (uids[1], service["spec"]["clusterIP"], 80),
    }
    with ExitStack() as stack:
        for pod, port in ((uids[2], POD_PORT), ("-", LINK_PORT)):
            stack.callback(lab.program("minion-2", "flow", "serve", pod, str(port)).close)
        wait(
            lambda: lab.on("minion-1", f"timeout 1 bash -c '</dev/tcp/{address}/{POD_PORT}' && echo yes"),
            "pods reach each other",
            timeout_s,
            every_s=0.2,
        )
        asking = {way: lab.program("minion-1", "flow", "ask", pod, place, str(port)) for way, (pod, place, port) in ways.items()}
        for program in asking.values():
            stack.callback(program.close)
        for _ in range(ROUNDS):
            for way, program in asking.items():
                program.tell("go")
                megabytes, trip_us, connect_us = map(float, program.line().split())
                report.add(f"{network}-{way}-rate", megabytes)
                report.add(f"{network}-{way}-trip", trip_us)
                report.add(f"{network}-{way}-connect", connect_us)


def _pod(number: int) -> dict[str, Any]:
    labels = {"name": "flow", "minion": str(number)}
    spec = {"nodeName": f"minion-{number}", "containers": [{"name": "c", "image": "busybox", "command": ["sleep", "3600"]}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"flow-{number}", "labels": labels}, "spec": spec}


def _service() -> dict[str, Any]:
    """Only the pod on the other minion is behind it."""
    spec = {"selector": {"name": "flow", "minion": "2"}, "ports": [{"port": 80, "targetPort": POD_PORT}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "flow"}, "spec": spec}
