"""Gives each node its range of pod addresses: minion-N gets N.0/24 of the pod network, once, when its Node appears."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from random import Random

from labctl.machines.settings import MachinesSettings
from labctl.reconcile.plan import NOTHING, Index, Key, Patch, Plan, Seen, View
from labctl.resources.plurals import MACHINES, NODES


class PodRanges:
    """The controller that the module's docstring describes."""

    name = "pod-ranges"
    kind = NODES

    def __init__(self, settings: MachinesSettings) -> None:
        self._network = ipaddress.IPv4Network(settings.pod_network)
        self.watches: Mapping[str, Callable[[View, Seen], Iterable[Key]]] = {NODES: _same_name, MACHINES: _same_name}
        self.indexes: Mapping[tuple[str, str], Index] = {}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        node, machine = view.get(NODES, key), view.get(MACHINES, key)
        if node is None or machine is None or node.spec.pod_cidr or node.metadata.deletion_timestamp:
            return NOTHING
        subnet = str(subnet_of(self._network, machine.spec.number))
        return Plan([Patch(NODES, key, {"spec": {"podCIDR": subnet, "podCIDRs": [subnet]}}, why=f"its pods get addresses of {subnet}")])


def subnet_of(network: ipaddress.IPv4Network, number: int) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network((int(network.network_address) + (number << 8), 24))


def _same_name(view: View, seen: Seen) -> Iterable[Key]:
    return (seen.key,)
