"""The scheduler's picture of the nodes: what each one offers and which pods are placed there. Each change updates only what it concerns.

A pod counts from the moment it is decided (assumed), before its binding is seen, until it is finished or gone. So one decision adds up nothing:
it compares numbers that are there.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from copy import copy

from labctl.reconcile.plan import Key
from labctl.resources.kinds.core_v1.node import Node, Taint
from labctl.resources.quantities import to_bytes, to_int, to_millicores
from labctl.resources.taints import NOT_READY, UNSCHEDULABLE
from labctl.scheduler.demand import ANY_ADDRESS, Demand, HostPort

DEFAULT_PODS = 110


class NodeState:
    """One node. `node` is None while pods are bound to a node that does not exist."""

    __slots__ = (
        "name", "node", "millicores", "bytes", "pods", "taints",
        "used_millicores", "used_bytes", "weight_millicores", "weight_bytes", "placed", "host_ports", "groups",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.node: Node | None = None
        self.millicores = self.bytes = self.pods = 0  # allocatable
        self.taints: tuple[Taint, ...] = ()  # that keep new pods away
        self.used_millicores = self.used_bytes = self.weight_millicores = self.weight_bytes = 0
        self.placed = 0
        self.host_ports: dict[HostPort, int] = {}
        self.groups: dict[Hashable, int] = {}

    def set(self, node: Node) -> None:
        self.node = node
        offered = node.status.allocatable or node.status.capacity
        self.millicores = to_millicores(offered.get("cpu", 0))
        self.bytes = to_bytes(offered.get("memory", 0))
        self.pods = to_int(offered.get("pods", DEFAULT_PODS))
        self.taints = tuple(
            taint for taint in node.spec.taints if taint.effect in ("NoSchedule", "NoExecute") and taint.key != UNSCHEDULABLE
        )
        if not node.ready and not self.taints:
            self.taints = (Taint(NOT_READY, effect="NoSchedule"),)  # it registered just now: its taint is on the way

    def count(self, demand: Demand, sign: int) -> None:
        self.used_millicores += sign * demand.millicores
        self.used_bytes += sign * demand.bytes
        self.weight_millicores += sign * demand.weight_millicores
        self.weight_bytes += sign * demand.weight_bytes
        self.placed += sign
        for port in demand.host_ports:
            self.host_ports[port] = self.host_ports.get(port, 0) + sign
            if not self.host_ports[port]:
                del self.host_ports[port]
        if demand.group is None:
            return
        replicas = self.groups.get(demand.group, 0) + sign
        if replicas:
            self.groups[demand.group] = replicas
        else:
            self.groups.pop(demand.group, None)

    def less(self, demand: Demand) -> NodeState:
        """A copy in which this demand does not count."""
        copied = copy(self)
        copied.host_ports, copied.groups = dict(self.host_ports), dict(self.groups)
        copied.count(demand, -1)
        return copied

    def port_taken(self, wanted: HostPort) -> bool:
        address, protocol, port = wanted
        return any(
            (taken_protocol, taken_port) == (protocol, port) and (taken == address or ANY_ADDRESS in (taken, address))
            for taken, taken_protocol, taken_port in self.host_ports
        )


class Cluster:
    """All nodes, and on which node each pod is counted."""

    def __init__(self) -> None:
        self._states: dict[str, NodeState] = {}
        self._order: list[NodeState] | None = None
        self._placed: dict[Key, tuple[str, Demand]] = {}

    def __len__(self) -> int:
        return len(self._nodes())

    def set_node(self, node: Node) -> None:
        self._state(node.metadata.name).set(node)
        self._order = None

    def drop_node(self, name: str) -> None:
        state = self._states[name]
        state.node = None
        self._order = None
        if not state.placed:
            del self._states[name]

    def place(self, key: Key, node: str, demand: Demand) -> None:
        """Counts the pod on this node, and no longer on another."""
        self.lift(key)
        self._placed[key] = node, demand
        self._state(node).count(demand, +1)

    def lift(self, key: Key) -> bool:
        """Counts the pod on no node. Answers whether it was counted before."""
        name, demand = self._placed.pop(key, ("", None))
        if demand is None:
            return False
        state = self._states[name]
        state.count(demand, -1)
        if state.node is None and not state.placed:
            del self._states[name]
        return True

    def where(self, key: Key) -> str:
        """The name of the node on which a pod is counted, or ""."""
        return self._placed[key][0] if key in self._placed else ""

    def from_turn(self, turn: int, without: Key = "") -> Iterator[NodeState]:
        """Every node once, beginning with another one each turn, so that in a large cluster all get their share.

        `without` names a pod that counts nowhere in the answer: it was decided before, but its binding came to nothing.
        """
        nodes = self._nodes()
        start = turn % len(nodes) if nodes else 0
        name, demand = self._placed.get(without, ("", None))
        for state in (*nodes[start:], *nodes[:start]):
            yield state.less(demand) if demand is not None and state.name == name else state

    def _state(self, name: str) -> NodeState:
        state = self._states.get(name)
        if state is None:
            state = self._states[name] = NodeState(name)
        return state

    def _nodes(self) -> list[NodeState]:
        if self._order is None:
            self._order = [self._states[name] for name in sorted(self._states) if self._states[name].node is not None]
        return self._order
