"""How fast nodes may lose their pods for their silence: Kubernetes' rule for zones (node-lifecycle-controller).

In each zone one node after the other loses its pods, at a rate. When too many nodes of a zone are not well at once (a share of 55 %, and more than two),
the cause is more likely the network than the nodes: in a large zone the rate falls, in a small one evictions stop. Nodes without zone labels are in
one zone. When no node at all is left to take the pods, nothing moves (nodes.py). Deaths that are known are facts, and are not held back.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from labctl.controllers.indexes import NODES
from labctl.controllers.settings import ControllerSettings
from labctl.reconcile.plan import View
from labctl.resources.kinds.core_v1.node import Node

REGION = "topology.kubernetes.io/region"
COUNTED_AGAIN_S = 0.2  # the nodes of all zones are counted at most so often

IsSuspect = Callable[[View, str, float], bool]


def zone_of(node: Node) -> str:
    labels = node.metadata.labels
    return f"{labels.get(REGION, '')}:{node.zone}"


class Zones:
    """Says whether a silent node may lose its pods now. `is_suspect` tells whether a node that counts as ready has missed a renewal."""

    def __init__(self, settings: ControllerSettings, is_suspect: IsSuspect) -> None:
        self._settings = settings
        self._is_suspect = is_suspect
        self._last: dict[str, tuple[float, str]] = {}  # zone -> when the last node of it lost its pods, and which
        self._counted: tuple[float, dict[str, tuple[int, int]]] = (-inf, {})

    def evicted(self, node: Node, now: float) -> None:
        """Note that a node loses its pods: the next one of its zone has to wait."""
        self._last[zone_of(node)] = (now, node.metadata.name)

    def wait(self, view: View, node: Node, now: float) -> tuple[float, str]:
        """Return how many seconds the node keeps its pods yet, and why; 0 if it may lose them now."""
        zone = zone_of(node)
        unwell, nodes = self._count(view, now).get(zone, (1, 1))
        rate, why = self._rate(unwell, nodes)
        if not rate:
            return inf, why
        last_at, last = self._last.get(zone, (-inf, ""))
        left_s = 1 / rate - (now - last_at)
        return (0.0, "") if last == node.metadata.name or left_s <= 0 else (left_s, why)

    def _rate(self, unwell: int, nodes: int) -> tuple[float, str]:
        settings = self._settings
        if unwell <= 2 or unwell / nodes < settings.unwell_share or unwell == nodes:
            return settings.eviction_rate, "another node of its zone lost its pods a moment ago"
        why = f"{unwell} of the {nodes} nodes of its zone are not well"
        return (settings.eviction_slow_rate if nodes > settings.large_zone else 0.0), why

    def _count(self, view: View, now: float) -> dict[str, tuple[int, int]]:
        """Return, for each zone, how many of its nodes are not well, and how many there are."""
        counted_at, counts = self._counted
        if now - counted_at >= COUNTED_AGAIN_S or now < counted_at:
            counts = {}
            for node in view.all(NODES):
                unwell, nodes = counts.get(zone_of(node), (0, 0))
                is_unwell = not node.ready or self._is_suspect(view, node.metadata.name, now)
                counts[zone_of(node)] = (unwell + is_unwell, nodes + 1)
            self._counted = (now, counts)
        return counts
