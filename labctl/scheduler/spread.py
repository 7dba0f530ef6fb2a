"""Topology spread constraints: how unevenly the pods that a selector finds are spread over the domains of nodes, and would be with one more.

A `Spread` is made for a decision from tallies that are there, and can be changed, as affinity.Neighbours can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import log

from labctl.resources.kinds.core_v1.node import Taint
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.placement import wants_node
from labctl.resources.taints import UNSCHEDULABLE
from labctl.resources.tolerations import tolerated
from labctl.scheduler.cluster import Cluster, NodeState, Placed
from labctl.scheduler.refusal import Refusal
from labctl.scheduler.terms import Constraint

SKEWED = Refusal("node(s) didn't match pod topology spread constraints")
NO_LABEL = Refusal("node(s) didn't match pod topology spread constraints (missing required label)", final=True)
HOSTNAME = "kubernetes.io/hostname"

Domains = dict[str, int]


class Spread:
    """The constraints that must hold (DoNotSchedule)."""

    def __init__(self, pod: Pod, constraints: Iterable[Constraint], cluster: Cluster) -> None:
        self._pod = pod
        self._constraints = [constraint for constraint in constraints if constraint.hard]
        self._self = [constraint.pods.matches(pod.metadata.labels) for constraint in self._constraints]
        self._keys = keys = [constraint.topology_key for constraint in self._constraints]
        nodes = [state for state in cluster.nodes() if all(key in state.labels for key in keys)] if keys else []
        self._domains = [counted(pod, constraint, nodes, cluster) for constraint in self._constraints]
        self._least = self._minima()

    def copy(self) -> Spread:
        copied = object.__new__(Spread)
        copied.__dict__.update(self.__dict__)
        copied._domains = [dict(domains) for domains in self._domains]
        return copied

    def refuses(self, state: NodeState) -> Refusal | None:
        for number, constraint in enumerate(self._constraints):
            value = state.labels.get(constraint.topology_key)
            if value is None:
                return NO_LABEL
            skew = self._domains[number].get(value, 0) + self._self[number] - self._least[number]
            if skew > constraint.max_skew:
                return SKEWED
        return None

    def change(self, placed: Placed, state: NodeState, sign: int) -> None:
        """Counts another pod on the node, or no longer."""
        pod = placed.pod
        if placed.leaving or pod.metadata.namespace != self._pod.metadata.namespace or any(key not in state.labels for key in self._keys):
            return
        changed = False
        for constraint, domains in zip(self._constraints, self._domains, strict=True):
            value = state.labels[constraint.topology_key]
            if value in domains and constraint.pods.matches(pod.metadata.labels) and _counts(self._pod, constraint, state):
                domains[value] += sign
                changed = True
        if changed:
            self._least = self._minima()

    def _minima(self) -> list[int]:
        """Return the least count of each constraint's domains; 0 while there are fewer domains than minDomains says."""
        return [
            min(domains.values(), default=0) if len(domains) >= constraint.min_domains else 0
            for constraint, domains in zip(self._constraints, self._domains, strict=True)
        ]


def counted(pod: Pod, constraint: Constraint, nodes: Iterable[NodeState], cluster: Cluster) -> Domains:
    """Return how many matching pods each domain of these nodes has. Pods that are being deleted don't count."""
    found = cluster.tallies.found(pod.metadata.namespace, constraint.pods, leaving=False)
    domains: Domains = {}
    for state in nodes:
        if _counts(pod, constraint, state):
            value = state.labels[constraint.topology_key]
            domains[value] = domains.get(value, 0) + found.get(state.name, 0)
    return domains


def _counts(pod: Pod, constraint: Constraint, state: NodeState) -> bool:
    """Tell whether the node counts for the constraint (nodeAffinityPolicy, nodeTaintsPolicy)."""
    node = state.node
    assert node is not None
    if constraint.honors_affinity and (pod.spec.affinity or pod.spec.node_selector) and not wants_node(pod.spec, node):
        return False
    if not constraint.honors_taints:
        return True
    cordon = (Taint(UNSCHEDULABLE, effect="NoSchedule"),) if node.spec.unschedulable else ()
    return all(tolerated(taint, pod.spec.tolerations) for taint in (*state.taints, *cordon))


# -- which node is better ------------------------------------------------------------------------------------------------------------------


def unevenness(pod: Pod, constraints: Sequence[Constraint], fitting: Sequence[NodeState], cluster: Cluster) -> list[float | None]:
    """Return for each fitting node how crowded its domains are by the ScheduleAnyway constraints, or None if it lacks one of the labels.

    Many domains weigh more than few, as in Kubernetes: one more pod in one of two zones matters less than one more on one of a hundred nodes.
    """
    keys = [constraint.topology_key for constraint in constraints]
    labelled = [state for state in fitting if all(key in state.labels for key in keys)]
    everywhere = [state for state in cluster.nodes() if all(key in state.labels for key in keys)]
    parts: list[tuple[str, Mapping[str, int], float, int]] = []
    for constraint in constraints:
        key = constraint.topology_key
        weight = log(len({state.labels[key] for state in labelled}) + 2)
        parts.append((key, counted(pod, constraint, everywhere, cluster), weight, constraint.max_skew))
    crowded: list[float | None] = []
    for state in fitting:
        if any(key not in state.labels for key in keys):
            crowded.append(None)
        else:
            crowded.append(sum(domains.get(state.labels[key], 0) * weight + skew - 1 for key, domains, weight, skew in parts))
    return crowded
