"""What hollow nodes report: the statuses of nodes and pods, as an agent writes them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labctl.controllers.conditions import plain
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.shared import condition_status
from labctl.scheduler.demand import RESTART_ALL
from labctl.sim.objects import condition

if TYPE_CHECKING:
    from labctl.sim.containers import Running
    from labctl.sim.settings import HollowSettings

OWN_CONDITIONS = frozenset(("PodScheduled", "ContainersReady", "Ready"))
"""The conditions of a pod that its node writes. All others are somebody else's, and stay."""
UNKNOWN = ("machineID", "systemUUID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeProxyVersion")


def of_node(name: str, address: str, boot_id: str, settings: HollowSettings, now: str) -> dict[str, Any]:
    offered = {"cpu": settings.cpu, "memory": settings.memory, "pods": str(settings.pods)}
    ready = condition("Ready", "True", reason="KubeletReady", message="kubelet is posting ready status", lastTransitionTime=now)
    info = {
        "bootID": boot_id,
        "kubeletVersion": "hollow",
        "architecture": "amd64",
        "operatingSystem": "linux",
        **dict.fromkeys(UNKNOWN, ""),
    }
    addresses = [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]
    told = {"addresses": addresses, "capacity": offered, "allocatable": offered, "conditions": [ready], "nodeInfo": info}
    return {**told, "declaredFeatures": [RESTART_ALL]}


def of_pod(there: Running, known: Pod | None, others: list[dict[str, Any]], now: str, *, containers: bool) -> dict[str, Any]:
    """Return the status of a pod that runs. `known` is the API's object, `others` are the conditions that are not the node's."""
    closed = _closed_gates(known) if known is not None else ()
    own = {"PodScheduled": True, "ContainersReady": there.ready, "Ready": there.ready and not closed}
    since = {(each.type, each.status): each.last_transition_time for each in known.status.conditions} if known is not None else {}
    conditions = [
        condition(type_, _said(holds), lastTransitionTime=since.get((type_, _said(holds))) or now) for type_, holds in own.items()
    ]
    if there.ready and closed:
        conditions[-1] |= {"reason": "ReadinessGatesNotReady", "message": f"not True: {', '.join(closed)}"}
    elif not there.ready:
        names = sorted(there.dead | there.failing)
        conditions[-1] |= {"reason": "ContainersNotReady", "message": f"containers with unready status: [{' '.join(names)}]"}
    status: dict[str, Any] = {
        "phase": "Running",
        "startTime": (known.status.start_time if known is not None else None) or now,
        "podIP": there.ip,
        "podIPs": [{"ip": there.ip}],
        "conditions": [*conditions, *others],
    }
    if containers:
        status |= {"hostIP": there.ip, "containerStatuses": there.statuses(known)}
    return status


def others(known: Pod | None) -> list[dict[str, Any]]:
    """Return the conditions of a pod that are not its node's."""
    return [plain(each) for each in known.status.conditions if each.type not in OWN_CONDITIONS] if known is not None else []


def differs(pod: Pod, there: Running) -> bool:
    """Tell whether the API has another status of a pod than its node."""
    ready = there.ready and not _closed_gates(pod)
    return (
        pod.status.pod_ip != there.ip
        or pod.ready != ready
        or condition_status(pod.status.conditions, "ContainersReady") != _said(there.ready)
    )


def _closed_gates(pod: Pod) -> tuple[str, ...]:
    """Return the readiness gates of a pod whose conditions are not True (KEP-580)."""
    gates = pod.spec.readiness_gates
    return (
        tuple(gate.condition_type for gate in gates if condition_status(pod.status.conditions, gate.condition_type) != "True")
        if gates
        else ()
    )


def _said(holds: bool) -> str:
    return "True" if holds else "False"
