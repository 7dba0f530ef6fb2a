"""Which nodes a pod may go to, and in today's Kubernetes' words why not to the others.

The filters stand in Kubernetes' order, and a node is refused by the first that refuses it; only resources may give several reasons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from labctl.resources.kinds.core_v1.node import Node, Taint
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.placement import wants_node
from labctl.resources.tolerations import tolerated
from labctl.scheduler.cluster import UNSCHEDULABLE, NodeState
from labctl.scheduler.demand import Demand
from labctl.scheduler.volumes import NO_VOLUMES, PodVolumes, refusal

CORDONED = Taint(UNSCHEDULABLE, effect="NoSchedule")


def refusals(pod: Pod, demand: Demand, state: NodeState, wanted: PodVolumes = NO_VOLUMES) -> tuple[str, ...]:
    """Why the pod can't go to this node; nothing: it can."""
    node = state.node
    assert node is not None
    tolerations = pod.spec.tolerations
    if node.spec.unschedulable and not tolerated(CORDONED, tolerations):
        return ("node(s) were unschedulable",)
    if state.taints and not all(tolerated(taint, tolerations) for taint in state.taints):
        return ("node(s) had untolerated taint(s)",)
    if not wants_node(pod.spec, node):
        return ("node(s) didn't match Pod's node affinity/selector",)
    if demand.host_ports and any(state.port_taken(port) for port in demand.host_ports):
        return ("node(s) didn't have free ports for the requested pod ports",)
    return tuple(_short(demand, state)) or _volumes(wanted, node)


def _short(demand: Demand, state: NodeState) -> Iterable[str]:
    if state.placed + 1 > state.pods:
        yield "Too many pods"
    if demand.millicores and state.used_millicores + demand.millicores > state.millicores:
        yield "Insufficient cpu"
    if demand.bytes and state.used_bytes + demand.bytes > state.bytes:
        yield "Insufficient memory"


def _volumes(wanted: PodVolumes, node: Node) -> tuple[str, ...]:
    refused = refusal(wanted, node) if wanted is not NO_VOLUMES else ""
    return (refused,) if refused else ()


def sentence(nodes: int, reasons: Counter[str]) -> str:
    """`0/2 nodes are available: 1 Insufficient memory, 1 node(s) were unschedulable.`"""
    if not nodes:
        return "no nodes available to schedule pods"
    told = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return f"0/{nodes} nodes are available: {told}."
