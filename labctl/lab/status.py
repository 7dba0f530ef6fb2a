"""`status` shows the state of machines, nodes and the master, and starts nothing.

`tasks` are the parts of the master that failed lately.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labctl.errors import ApiError, LabctlError
from labctl.lab import machines, process

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder


def status(lab: LabFolder) -> dict[str, Any]:
    if not lab.exists:
        raise LabctlError(f"there is no lab in {lab.folder} or above", mend="labctl up")
    run = process.master_run(lab.paths)
    answer: dict[str, Any] = {
        "lab": lab.record["id"],
        "folder": str(lab.folder),
        "provider": lab.record["kept"].get("provider", ""),
        "kubeconfig": str(lab.paths.kubeconfig),
        "master": {"running": bool(run), **run},
        "tasks": [],
        "machines": [],
        "nodes": [],
    }
    if run:
        answer["tasks"] = _tasks(lab)
        answer["machines"] = [_machine(machine) for machine in machines.list_machines(lab)]
        answer["nodes"] = [_node(node) for node in lab.api.get("/api/v1/nodes")["items"]]
    return answer


def _tasks(lab: LabFolder) -> list[dict[str, Any]]:
    """Return the parts of the master that failed lately; none of a master from before it told them."""
    try:
        tasks: list[dict[str, Any]] = lab.api.get("/labctl/v1/health")["tasks"]
    except ApiError as error:
        if error.code != 404:
            raise
        return []
    return tasks


def _machine(machine: dict[str, Any]) -> dict[str, Any]:
    status, spec = machine.get("status", {}), machine["spec"]
    return {
        "name": machine["metadata"]["name"],
        "power": status.get("power", ""),
        "wanted": spec.get("power", "On"),
        "phase": status.get("phase", ""),
        "address": status.get("address", ""),
        "memory": spec.get("memory", ""),
        "cpus": spec.get("cpus", ""),
        "message": status.get("message", ""),
    }


def _node(node: dict[str, Any]) -> dict[str, Any]:
    conditions = {c["type"]: c for c in node.get("status", {}).get("conditions", [])}
    ready = conditions.get("Ready", {})
    return {
        "name": node["metadata"]["name"],
        "ready": ready.get("status", "Unknown"),
        "reason": ready.get("reason", ""),
        "schedulable": not node.get("spec", {}).get("unschedulable", False),
        "taints": [f"{t['key']}:{t['effect']}" for t in node.get("spec", {}).get("taints", [])],
    }
