"""What each type of fault costs a Service of two replicas with a readiness probe, with the default settings, on namespace machines.

For each case, several times: requests run from the minions that are not hit, the fault is injected and healed as a person does it, and the figures are
those of its timeline (docs/measuring.md). Two more parts: what is done on purpose (drain, rolling update) and what is repaired by itself must fail no
request; and a lab with `--timing lab` notices a machine that falls silent. Timelines are read as everybody reads them: from the master, by the API.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.figures import FAULT_CASES, Report
from bench.lab import BenchError, BenchLab, bench_lab, is_ready, wait
from labctl.errors import LabctlError
from labctl.lab.faults import LabFaults
from labctl.lab.measuring import Asked, Measuring
from labctl.lab.timelines import lines_since, timeline_of
from labctl.measure.marks import FaultFacts, Figures
from labctl.measure.records import Measurement
from labctl.measure.timeline import timeline

MINIONS, RATE, TIMES = 3, 200.0, 3
BEFORE_S, AFTER_S = 1.0, 2.0
WEB = "app=web"
DEPLOYMENT = "/apis/apps/v1/namespaces/default/deployments"


def web(replicas: int) -> list[dict[str, Any]]:
    """The Deployment and its Service: no two replicas on one machine, a readiness probe each second."""
    labels = {"app": "web"}
    apart = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
    container = {"name": "web", "image": "nginx", "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1}}
    container["resources"] = {"limits": {"memory": "64Mi"}}
    spec = {
        "containers": [container],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}},
    }
    template = {"metadata": {"labels": labels}, "spec": spec}
    deployment = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": deployment},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"selector": labels, "ports": [{"port": 80}]}},
    ]


@dataclass(frozen=True)
class Case:
    """A fault as a person would type it. `target` is made from the victim, a pod and the name of its machine; it is healed after `lasts_s`."""

    type: str
    target: Callable[[dict[str, Any]], str]
    parameters: dict[str, str] = field(default_factory=dict)
    lasts_s: float = 0.0


def _pod(victim: dict[str, Any]) -> str:
    return f"pod/default/{victim['metadata']['name']}"


def _machine(victim: dict[str, Any]) -> str:
    return str(victim["spec"]["nodeName"])


def _agent(victim: dict[str, Any]) -> str:
    return f"client/system:node:{_machine(victim)}"


def _master(_victim: dict[str, Any]) -> str:
    return "master"


CASES: dict[str, Case] = {
    "kill-container": Case("kill-container", _pod),
    "stop-container": Case("stop-container", _pod, lasts_s=6),
    "burn-cpu": Case("burn-cpu", _pod, {"cpus": "2"}, lasts_s=4),
    "burn-memory": Case("burn-memory", _pod, {"size": "200%"}, lasts_s=4),
    "power-off": Case("power-off", _machine, lasts_s=4),
    "reset": Case("reset", _machine),
    "kill-agent": Case("kill-process", _machine, {"process": "agent"}),
    "kill-helper": Case("kill-process", _machine, {"process": "helper"}),
    "kill-sshd": Case("kill-process", _machine, {"process": "sshd"}),
    "kill-ssh": Case("kill-process", _master, {"process": "ssh"}),
    "flush-rules": Case("flush-rules", _machine),
    "fail-dns": Case("fail-dns", _machine, {"mode": "drop"}, lasts_s=4),
    "fail-pulls": Case("fail-pulls", _machine, lasts_s=4),
    "slow-disk": Case("slow-disk", _machine, {"rate": "64Ki"}, lasts_s=4),
}
CASES |= {
    "pause": Case("pause", _machine, lasts_s=8),  # longer than a request waits for its answer
    "cut": Case("cut", _machine, lasts_s=8),
    "loss": Case("loss", _machine, {"share": "10%"}, lasts_s=4),
    "delay": Case("delay", _machine, {"time": "50ms"}, lasts_s=4),
    "rate": Case("rate", _machine, {"rate": "1mbit"}, lasts_s=4),
    "api-delay": Case("api-delay", _agent, {"time": "200ms"}, lasts_s=4),
    "api-refuse": Case("api-refuse", _agent, {"code": "503"}, lasts_s=4),
}
SILENT = Case("pause", _machine, lasts_s=8)
EVERYWHERE = ("flush-rules",)
"""What is felt on the machine itself: requests run from there, too."""


def measure(report: Report) -> None:
    assert set(FAULT_CASES) == {*CASES, "silent", "singleton"}
    trouble = []
    with bench_lab(MINIONS, "nginx") as lab:
        _deploy(lab, 2)
        trouble += [_several(lab, key, case, 2, report) for key, case in CASES.items()]
        for key, what in (("fault-drain-failed", _drain), ("fault-rollout-failed", _rollout), ("fault-master-failed", _kill_master)):
            report.add(key, _failed_while(lab, what))
        lab.api.patch(f"{DEPLOYMENT}/web", {"spec": {"replicas": 1}})
        trouble.append(_several(lab, "singleton", CASES["power-off"], 1, report))
    with _lab_with_timing_lab() as lab:
        _deploy(lab, 2)
        trouble.append(_several(lab, "silent", SILENT, 2, report))
    if any(trouble):
        raise BenchError("; ".join(filter(None, trouble)))


@contextlib.contextmanager
def _lab_with_timing_lab() -> Iterator[BenchLab]:
    with bench_lab() as lab:
        lab.labctl("up", "--minions", str(MINIONS), "--timing", "lab", timeout_s=900)
        yield lab


def _deploy(lab: BenchLab, replicas: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "web.json")
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": web(replicas)}))
        lab.kubectl("create", "-f", str(file))
    _steady(lab, replicas)


def _steady(lab: BenchLab, replicas: int) -> list[dict[str, Any]]:
    """Every node is Ready, and so many pods are. Answers the pods."""

    def nodes() -> bool:
        return all(map(is_ready, lab.api.get("/api/v1/nodes")["items"]))

    wait(nodes, "all nodes are Ready", every_s=0.05)
    return lab.wait_ready(replicas, WEB, timeout_s=120)


def _several(lab: BenchLab, key: str, case: Case, replicas: int, report: Report) -> str:
    """Answers why the case was broken off; empty if it was not, or if it can't be done here. The others go on."""
    found: list[tuple[Figures, float]] = []
    trouble = ""
    try:
        for number in range(TIMES):
            found.append(_once(lab, key, case, replicas, f"bench-{key}-{number}"))
    except (LabctlError, BenchError) as error:
        trouble = "" if str(error).startswith("refused: ") else f"{key}: {error}"
        LabFaults(lab.lab).heal(LabFaults(lab.lab).unfinished())
    if not found:
        return trouble
    requests = round(statistics.median(each.requests or 0 for each, _ in found))
    for name in ("reaction", "repair", "recovery", "outage"):
        seconds = [value for each, _ in found if (value := getattr(each, f"{name}_s")) is not None]
        report.add(f"fault-{key}-{name}", seconds)
    report.add(f"fault-{key}-errors", [errors_s for _, errors_s in found])
    report.add(f"fault-{key}-failed", [each.failed or 0 for each, _ in found], f"of {requests}")
    return trouble


def _once(lab: BenchLab, key: str, case: Case, replicas: int, name: str) -> tuple[Figures, float]:
    """Play a case once. Answers its figures, and for how long requests failed."""
    _never_restarted(lab, replicas)
    victim = _steady(lab, replicas)[0]
    faults = LabFaults(lab.lab)
    sources = [node for node in _nodes(lab) if key in EVERYWHERE or node != _machine(victim)]
    running = Measuring(lab.lab).start(Asked(target="web"), rate=RATE, sources=sources)
    try:
        time.sleep(BEFORE_S)
        made = faults.inject(case.type, case.target(victim), name=name, parameters=case.parameters)
        time.sleep(case.lasts_s)
        if made["status"]["phase"] != "Healed":
            faults.heal([name])
        _steady(lab, replicas)
        time.sleep(AFTER_S)
    finally:
        measurement = running.stop()
    return timeline_of(lab.lab, name, measurement=measurement).figures, errors_s(measurement)


def _never_restarted(lab: BenchLab, replicas: int) -> None:
    """A pod whose container was restarted would wait for its back-off next time: it is replaced by a fresh one."""
    for pod in _steady(lab, replicas):
        if pod["status"]["containerStatuses"][0]["restartCount"]:
            lab.api.delete(f"/api/v1/namespaces/default/pods/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})


def errors_s(measurement: Measurement) -> float:
    """From the first request that failed, when it was due, to the end of the last one; 0 if none failed. How long the deed itself took plays no part."""
    failed = [each for each in measurement.requests if each.outcome not in ("ok", "unsent")]
    return max(each.ended_s or each.intended_s for each in failed) - min(each.intended_s for each in failed) if failed else 0.0


def _nodes(lab: BenchLab) -> list[str]:
    return sorted(node["metadata"]["name"] for node in lab.api.get("/api/v1/nodes")["items"])


# -- what is done on purpose ------------------------------------------------------------------------------------------------------------------


def _failed_while(lab: BenchLab, what: Callable[[BenchLab], None]) -> int:
    _steady(lab, 2)
    running = Measuring(lab.lab).start(Asked(target="web"), rate=RATE)
    began = time.monotonic() + BEFORE_S
    try:
        time.sleep(BEFORE_S)
        what(lab)
        _steady(lab, 2)
        time.sleep(AFTER_S)
    finally:
        measurement = running.stop()
    facts = FaultFacts(name="action", type="action", target="", injected_s=began)
    counted = timeline(facts, lines_since(lab.lab, began), measurement).figures
    if not counted.requests:
        raise BenchError("no request was sent")
    return counted.failed or 0


def _drain(lab: BenchLab) -> None:
    node = _machine(_steady(lab, 2)[0])
    lab.kubectl("drain", node, "--ignore-daemonsets", "--timeout=60s")
    _steady(lab, 2)
    lab.kubectl("uncordon", node)


def _rollout(lab: BenchLab) -> None:
    lab.kubectl("rollout", "restart", "deployment/web")
    lab.kubectl("rollout", "status", "deployment/web", "--timeout=60s")


def _kill_master(lab: BenchLab) -> None:
    os.kill(lab.master["pid"], signal.SIGKILL)
    lab.__dict__.pop("api", None)
    lab.labctl("get", "nodes")  # a command that finds no master starts one
