"""Which nodes a pod may go to, and in today's Kubernetes' words why not to the others.

The filters stand in Kubernetes' order, and a node is refused by the first that refuses it; only the last, resources, may give several reasons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from labctl.resources.kinds.core_v1.node import Node, Taint
from labctl.resources.kinds.core_v1.pod_view import Pod, Toleration
from labctl.resources.tolerations import tolerates
from labctl.scheduler.cluster import UNSCHEDULABLE, NodeState
from labctl.scheduler.demand import Demand

CORDONED = Taint(UNSCHEDULABLE, effect="NoSchedule")


def refusals(pod: Pod, demand: Demand, state: NodeState) -> tuple[str, ...]:
    """Why the pod can't go to this node; nothing: it can."""
    node = state.node
    assert node is not None
    tolerations = pod.spec.tolerations
    if node.spec.unschedulable and not tolerated(CORDONED, tolerations):
        return ("node(s) were unschedulable",)
    if state.taints and not all(tolerated(taint, tolerations) for taint in state.taints):
        return ("node(s) had untolerated taint(s)",)
    if not _selected(pod, node):
        return ("node(s) didn't match Pod's node affinity/selector",)
    if demand.host_ports and any(state.port_taken(port) for port in demand.host_ports):
        return ("node(s) didn't have free ports for the requested pod ports",)
    return tuple(_short(demand, state))


def _short(demand: Demand, state: NodeState) -> Iterable[str]:
    if state.placed + 1 > state.pods:
        yield "Too many pods"
    if demand.millicores and state.used_millicores + demand.millicores > state.millicores:
        yield "Insufficient cpu"
    if demand.bytes and state.used_bytes + demand.bytes > state.bytes:
        yield "Insufficient memory"


def tolerated(taint: Taint, tolerations: Iterable[Toleration]) -> bool:
    return any(tolerates(toleration, taint) for toleration in tolerations)


def _selected(pod: Pod, node: Node) -> bool:
    labels = node.metadata.labels
    if pod.spec.node_selector and any(labels.get(key) != value for key, value in pod.spec.node_selector.items()):
        return False
    required = pod.spec.affinity.required if pod.spec.affinity else ()
    return not required or any(_term(term, labels, node.metadata.name) for term in required)


def _term(term: Any, labels: Mapping[str, str], name: str) -> bool:
    """All of a term's expressions; a term without any matches nothing."""
    if not term.match_expressions and not term.match_fields:
        return False
    fields = {"metadata.name": name}
    return all(_expression(e, labels) for e in term.match_expressions) and all(_expression(e, fields) for e in term.match_fields)


def _expression(expression: Any, labels: Mapping[str, str]) -> bool:
    value = labels.get(expression.key)
    match expression.operator:
        case "In":
            return value in expression.values
        case "NotIn":
            return value not in expression.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return _compares(value, expression.operator, expression.values)
    return False


def _compares(value: str | None, operator: str, values: Iterable[str]) -> bool:
    try:
        have, bound = int(value or ""), int(next(iter(values)))
    except (ValueError, StopIteration):
        return False
    return have > bound if operator == "Gt" else have < bound


def sentence(nodes: int, reasons: Counter[str]) -> str:
    """`0/2 nodes are available: 1 Insufficient memory, 1 node(s) were unschedulable.`"""
    if not nodes:
        return "no nodes available to schedule pods"
    told = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return f"0/{nodes} nodes are available: {told}."
