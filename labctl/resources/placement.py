"""This module decides whether a node fits a pod's nodeSelector and required node affinity, and whether a volume can be mounted on it.

The scheduler and the DaemonSet controller call it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.kinds.core_v1.pod_affinity import NodeRequirement, NodeTerm
from labctl.resources.kinds.core_v1.pod_view import PodSpec


def wants_node(spec: PodSpec, node: Node) -> bool:
    """True if the node fits the pod's nodeSelector and required node affinity."""
    labels = node.metadata.labels
    if spec.node_selector and any(labels.get(key) != value for key, value in spec.node_selector.items()):
        return False
    required = spec.affinity.required if spec.affinity else ()
    return not required or in_terms(required, node)


def in_terms(terms: Iterable[NodeTerm], node: Node) -> bool:
    """Tell whether the node satisfies one of the terms of a node selector."""
    return any(matches_term(term, node) for term in terms)


def matches_term(term: NodeTerm, node: Node) -> bool:
    """True if the node matches all expressions of a term. A term without expressions matches nothing."""
    if not term.match_expressions and not term.match_fields:
        return False
    labels, fields = node.metadata.labels, {"metadata.name": node.metadata.name}
    return all(_expression(e, labels) for e in term.match_expressions) and all(_expression(e, fields) for e in term.match_fields)


def _expression(expression: NodeRequirement, labels: Mapping[str, str]) -> bool:
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
