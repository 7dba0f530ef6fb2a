"""Which nodes a pod may go to, and in today's Kubernetes' words why not to the others.

The filters stand in Kubernetes' order, and a node is refused by the first that refuses it; only the one of resources may give several reasons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from labctl.defaults import MACHINE_PORTS
from labctl.resources.kinds.core_v1.node import Node, Taint
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.placement import wants_node
from labctl.resources.tolerations import tolerated
from labctl.scheduler.affinity import Neighbours
from labctl.scheduler.cluster import UNSCHEDULABLE, Cluster, NodeState, Placed
from labctl.scheduler.demand import Demand
from labctl.scheduler.refusal import Refusal
from labctl.scheduler.spread import Spread
from labctl.scheduler.terms import NamespaceLabels
from labctl.scheduler.volumes import NO_VOLUMES, PodVolumes, refusal

CORDONED = Taint(UNSCHEDULABLE, effect="NoSchedule")

_UNSCHEDULABLE = Refusal("node(s) were unschedulable", final=True)
_TAINTED = Refusal("node(s) had untolerated taint(s)", final=True)
_NOT_WANTED = Refusal("node(s) didn't match Pod's node affinity/selector", final=True)
_NO_PORTS = Refusal("node(s) didn't have free ports for the requested pod ports")
_NO_DEVICES = Refusal("cannot allocate all claims", final=True)  # no minion runs a driver of devices, so nothing is ever allocated
_MACHINES_PORTS = Refusal(*_NO_PORTS.reasons, final=True)  # nobody's end would free them


class Situation:
    """One pod that is to be placed, and what other pods mean for it. Made for a decision; a copy can be changed to ask what would be if."""

    def __init__(self, pod: Pod, demand: Demand, cluster: Cluster, labels_of: NamespaceLabels, volumes: PodVolumes = NO_VOLUMES) -> None:
        self.pod, self.demand, self.volumes = pod, demand, volumes
        terms = demand.terms
        self.neighbours = Neighbours(pod, demand, cluster, labels_of) if terms or cluster.far.terms else None
        self.spread = Spread(pod, terms.constraints, cluster) if terms and terms.constraints else None
        spec = pod.spec
        self._choosy = bool(
            spec.node_selector
            or spec.affinity
            or demand.host_ports
            or demand.features
            or demand.devices
            or volumes is not NO_VOLUMES
            or self.spread
            or self.neighbours
        )
        assumed = cluster.placed(pod.metadata.key)
        state = cluster.state(assumed.node) if assumed else None
        if assumed and state:  # its binding came to nothing: it must not stand in its own way
            self.change(assumed, state, -1)

    def copy(self) -> Situation:
        copied = object.__new__(Situation)
        copied.pod, copied.demand, copied.volumes = self.pod, self.demand, self.volumes
        copied.neighbours = self.neighbours.copy() if self.neighbours else None
        copied.spread = self.spread.copy() if self.spread else None
        copied._choosy = self._choosy
        return copied

    def change(self, placed: Placed, state: NodeState, sign: int) -> None:
        """Counts another pod on a node, or no longer. The node's own state is changed by who asks."""
        if self.neighbours:
            self.neighbours.change(placed, state.labels, sign)
        if self.spread:
            self.spread.change(placed, state, sign)

    def refuses(self, state: NodeState) -> Refusal | None:
        """Why the pod can't go to this node; None: it can."""
        if not self._choosy and not state.restricted:  # most pods on most nodes: nothing but room is asked for
            return _short(self.demand, state)
        pod, demand, node = self.pod, self.demand, state.node
        assert node is not None
        tolerations = pod.spec.tolerations
        if node.spec.unschedulable and not tolerated(CORDONED, tolerations):
            return _UNSCHEDULABLE
        if state.taints and not all(tolerated(taint, tolerations) for taint in state.taints):
            return _TAINTED
        if not wants_node(pod.spec, node):
            return _NOT_WANTED
        if demand.host_ports and not pod.spec.host_network and any(port[1:] in MACHINE_PORTS for port in demand.host_ports):
            return _MACHINES_PORTS
        if demand.host_ports and any(state.port_taken(port) for port in demand.host_ports):
            return _NO_PORTS
        if short := _short(demand, state):
            return short
        if self.volumes is not NO_VOLUMES and (unreached := refusal(self.volumes, node)):
            return Refusal(unreached, final=True)
        if self.spread and (skewed := self.spread.refuses(state)):
            return skewed
        if self.neighbours and (refused := self.neighbours.refuses(state)):
            return refused
        if demand.devices:
            return _NO_DEVICES
        return _unsupported(demand, node)


def _unsupported(demand: Demand, node: Node) -> Refusal | None:
    lacking = [feature for feature in demand.features if feature not in node.status.declared_features]
    return Refusal(f"node declared features check failed - unsatisfied requirements: {', '.join(lacking)}", final=True) if lacking else None


def _short(demand: Demand, state: NodeState) -> Refusal | None:
    """Return what the node lacks. If it is more than the node has in all, evicting pods would not help."""
    cpu, memory = state.used_millicores + demand.millicores, state.used_bytes + demand.bytes
    if cpu <= state.millicores and memory <= state.bytes and state.placed < state.pods and not demand.others:
        return None
    short: list[str] = []
    final = False
    if state.placed >= state.pods:
        short.append("Too many pods")
    if demand.millicores and cpu > state.millicores:
        short.append("Insufficient cpu")
        final |= demand.millicores > state.millicores
    if demand.bytes and memory > state.bytes:
        short.append("Insufficient memory")
        final |= demand.bytes > state.bytes
    for name, amount in demand.others:
        if state.lacks(name, amount):
            short.append(f"Insufficient {name}")
            final |= amount > state.others.get(name, 0)
    return Refusal(*short, final=final) if short else None


def sentence(nodes: int, refusals: Iterable[Refusal]) -> str:
    """Return a sentence such as `0/2 nodes are available: 1 Insufficient memory, 1 node(s) were unschedulable.`"""
    if not nodes:
        return "no nodes available to schedule pods"
    reasons = Counter(reason for refusal in refusals for reason in refusal.reasons)
    told = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return f"0/{nodes} nodes are available: {told}."
