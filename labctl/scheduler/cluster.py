"""The scheduler's picture of the nodes: what each one offers and which pods are placed there. Each change updates only what it concerns.

A pod counts from the moment it is decided (assumed), before its binding is seen, until it is finished or gone. So one decision adds up nothing:
it compares numbers that are there. A pod that preempted others is nominated for a node: pods of a lower priority leave it the room.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from copy import copy
from itertools import chain, islice
from math import inf
from typing import TypeVar

import msgspec

from labctl.reconcile.plan import Key
from labctl.resources.kinds.core_v1.node import Node, Taint
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.quantities import to_bytes, to_int, to_millicores
from labctl.resources.taints import NOT_READY, UNSCHEDULABLE
from labctl.scheduler.demand import ANY_ADDRESS, Demand, HostPort
from labctl.scheduler.tallies import Tallies
from labctl.scheduler.terms import Term

K = TypeVar("K", bound=Hashable)

DEFAULT_PODS = 110
_COUNTED_IF_OFFERED = "ephemeral-storage"  # agents don't report how much there is


class Placed(msgspec.Struct, gc=False, eq=False):
    """A pod that counts on a node."""

    pod: Pod
    node: str
    demand: Demand

    @property
    def leaving(self) -> bool:
        return self.pod.metadata.deletion_timestamp is not None


class NodeState:
    """One node. `node` is None while pods are bound to a node that does not exist."""

    __slots__ = (
        "name", "node", "labels", "zone", "millicores", "bytes", "pods", "others", "taints", "discourages", "restricted",
        "used_millicores", "used_bytes", "used_others", "weight_millicores", "weight_bytes", "placed", "host_ports", "groups", "occupants",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.node: Node | None = None
        self.labels: Mapping[str, str] = {}
        self.zone = ""
        self.millicores = self.bytes = self.pods = 0  # allocatable
        self.others: Mapping[str, int] = {}
        self.taints: tuple[Taint, ...] = ()  # that keep new pods away
        self.discourages: tuple[Taint, ...] = ()  # PreferNoSchedule
        self.restricted = False  # cordoned or tainted: it takes only pods that tolerate that
        self.used_millicores = self.used_bytes = self.weight_millicores = self.weight_bytes = 0
        self.used_others: dict[str, int] = {}
        self.placed = 0
        self.host_ports: dict[HostPort, int] = {}
        self.groups: dict[Hashable, int] = {}
        self.occupants: dict[Key, Placed] = {}

    def set(self, node: Node) -> None:
        self.node = node
        self.labels = node.metadata.labels
        self.zone = node.zone
        offered = node.status.allocatable or node.status.capacity
        self.millicores = to_millicores(offered.get("cpu", 0))
        self.bytes = to_bytes(offered.get("memory", 0))
        self.pods = to_int(offered.get("pods", DEFAULT_PODS))
        self.others = {name: to_int(amount) for name, amount in offered.items() if name not in ("cpu", "memory", "pods")}
        self.taints = tuple(
            taint for taint in node.spec.taints if taint.effect in ("NoSchedule", "NoExecute") and taint.key != UNSCHEDULABLE
        )
        self.discourages = tuple(taint for taint in node.spec.taints if taint.effect == "PreferNoSchedule")
        if not node.ready and not self.taints:
            self.taints = (Taint(NOT_READY, effect="NoSchedule"),)  # it registered just now: its taint is on the way
        self.restricted = node.spec.unschedulable or bool(self.taints)

    def count(self, placed: Placed, sign: int) -> None:
        demand, key = placed.demand, placed.pod.metadata.key
        self.used_millicores += sign * demand.millicores
        self.used_bytes += sign * demand.bytes
        self.weight_millicores += sign * demand.weight_millicores
        self.weight_bytes += sign * demand.weight_bytes
        self.placed += sign
        for name, amount in demand.others:
            self.used_others[name] = self.used_others.get(name, 0) + sign * amount
        for port in demand.host_ports:
            add(self.host_ports, port, sign)
        if demand.group is not None:
            add(self.groups, demand.group, sign)
        if sign > 0:
            self.occupants[key] = placed
        else:
            del self.occupants[key]

    def copy(self) -> NodeState:
        """Return a copy that may be changed without changing this state."""
        copied = copy(self)
        copied.host_ports, copied.groups, copied.used_others = dict(self.host_ports), dict(self.groups), dict(self.used_others)
        copied.occupants = dict(self.occupants)
        return copied

    def less(self, placed: Placed) -> NodeState:
        """Return a copy in which this pod does not count."""
        copied = self.copy()
        copied.count(placed, -1)
        return copied

    def lacks(self, name: str, amount: int) -> bool:
        """Tell whether less than so much of a resource other than CPU and memory is free."""
        if name == _COUNTED_IF_OFFERED and name not in self.others:
            return False
        return self.used_others.get(name, 0) + amount > self.others.get(name, 0)

    def port_taken(self, wanted: HostPort) -> bool:
        address, protocol, port = wanted
        return any(
            (taken_protocol, taken_port) == (protocol, port) and (taken == address or ANY_ADDRESS in (taken, address))
            for taken, taken_protocol, taken_port in self.host_ports
        )


class Carriers:
    """The nodes on which pods run that carry a term: their own (anti-)affinity speaks of pods that come later."""

    def __init__(self) -> None:
        self.terms: dict[Term, dict[str, int]] = {}  # term -> node -> pods

    def count(self, terms: Iterable[Term], node: str, sign: int) -> None:
        for term in terms:
            nodes = self.terms.setdefault(term, {})
            add(nodes, node, sign)
            if not nodes:
                del self.terms[term]


class Cluster:
    """All nodes, and on which node each pod is counted."""

    def __init__(self) -> None:
        self.tallies = Tallies()
        self.near, self.far, self.rather_near, self.rather_far = Carriers(), Carriers(), Carriers(), Carriers()
        self._states: dict[str, NodeState] = {}
        self._order: list[NodeState] | None = None
        self._zones = 0
        self._discouraging = False
        self._placed: dict[Key, Placed] = {}
        self._priorities: dict[int, int] = {}  # of placed pods, how many have each
        self._nominated: dict[str, dict[Key, Placed]] = {}  # by node

    def __len__(self) -> int:
        return len(self._nodes())

    @property
    def zones(self) -> int:
        """Return how many zones the nodes' labels name."""
        self._nodes()
        return self._zones

    @property
    def discouraging(self) -> bool:
        """Tell whether any node has a PreferNoSchedule taint."""
        self._nodes()
        return self._discouraging

    @property
    def lowest_priority(self) -> float:
        """Return the lowest priority of all placed pods."""
        return min(self._priorities, default=inf)

    def set_node(self, node: Node) -> None:
        self._state(node.metadata.name).set(node)
        self._order = None

    def drop_node(self, name: str) -> None:
        state = self._states[name]
        state.node = None
        self._order = None
        if not state.placed:
            del self._states[name]

    def place(self, pod: Pod, node: str, demand: Demand) -> None:
        """Counts the pod on this node, and no longer on another."""
        key = pod.metadata.key
        self.lift(key)
        self.nominate(pod, "", demand)
        placed = self._placed[key] = Placed(pod, node, demand)
        self._state(node).count(placed, +1)
        self._tally(placed, +1)

    def lift(self, key: Key) -> bool:
        """Counts the pod on no node. Answers whether it was counted before."""
        placed = self._placed.pop(key, None)
        if placed is None:
            return False
        state = self._states[placed.node]
        state.count(placed, -1)
        self._tally(placed, -1)
        if state.node is None and not state.placed:
            del self._states[placed.node]
        return True

    def renew(self, pod: Pod) -> None:
        """Holds the newer view of a placed pod, whose place and labels are the same."""
        placed = self._placed.get(pod.metadata.key)
        if placed is not None:
            placed.pod = pod

    def placed(self, key: Key) -> Placed | None:
        return self._placed.get(key)

    def nominate(self, pod: Pod, node: str, demand: Demand) -> None:
        """Keeps room for a waiting pod on the node, and on no other; "": on none."""
        if self._nominated:
            self.forget_nomination(pod.metadata.key)
        if node:
            self._nominated.setdefault(node, {})[pod.metadata.key] = Placed(pod, node, demand)

    def forget_nomination(self, key: Key) -> None:
        for node, pods in list(self._nominated.items()):
            if pods.pop(key, None) is not None and not pods:
                del self._nominated[node]

    @property
    def nominations(self) -> int:
        """Return for how many nodes pods are nominated."""
        return len(self._nominated)

    def nominated(self, node: str) -> Iterable[Placed]:
        return self._nominated.get(node, {}).values()

    def state(self, name: str) -> NodeState | None:
        state = self._states.get(name)
        return state if state is not None and state.node is not None else None

    def nodes(self) -> list[NodeState]:
        """Return every node that exists, by name."""
        return self._nodes()

    def from_turn(self, turn: int, without: Key = "") -> Iterator[NodeState]:
        """Return every node once, beginning with another one each turn, so that in a large cluster all are considered equally often.

        `without` names a pod that counts nowhere in the answer: it was decided before, but its binding failed.
        """
        nodes = self._nodes()
        start = turn % len(nodes) if nodes else 0
        turned = chain(map(nodes.__getitem__, range(start, len(nodes))), islice(nodes, start))  # most pods look at a few of thousands
        placed = self._placed.get(without)
        if placed is None:
            return turned
        return (state.less(placed) if state.name == placed.node else state for state in turned)

    def _tally(self, placed: Placed, sign: int) -> None:
        if sign > 0:
            self.tallies.add(placed)
        else:
            self.tallies.remove(placed)
        add(self._priorities, placed.demand.priority, sign)
        terms = placed.demand.terms
        if terms is None:
            return
        for carriers, carried in (
            (self.near, terms.near),
            (self.far, terms.far),
            (self.rather_near, terms.rather_near),
            (self.rather_far, terms.rather_far),
        ):
            carriers.count(carried, placed.node, sign)

    def _state(self, name: str) -> NodeState:
        state = self._states.get(name)
        if state is None:
            state = self._states[name] = NodeState(name)
        return state

    def _nodes(self) -> list[NodeState]:
        if self._order is None:
            self._order = [self._states[name] for name in sorted(self._states) if self._states[name].node is not None]
            self._zones = len({state.zone for state in self._order if state.zone})
            self._discouraging = any(state.discourages for state in self._order)
        return self._order


def add(counts: dict[K, int], key: K, amount: int) -> None:
    """Adds to a count, and keeps none that is 0."""
    count = counts.get(key, 0) + amount
    if count:
        counts[key] = count
    else:
        counts.pop(key, None)
