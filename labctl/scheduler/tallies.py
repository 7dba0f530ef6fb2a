"""How many placed pods a label selector finds on each node. A tally is counted once, when somebody asks for it first; each pod that comes or goes then
updates the tallies of its namespace. So a decision reads numbers that are there, however many pods the namespace has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from labctl.scheduler.terms import PodSelector

if TYPE_CHECKING:
    from labctl.scheduler.cluster import Placed

TALLIES = 512  # of one namespace; more than so many different selectors are counted anew each time

_NONE: Mapping[str, int] = {}


class _Namespace:
    def __init__(self) -> None:
        self.pods: dict[str, Placed] = {}
        self.tallies: dict[tuple[PodSelector, bool], dict[str, int]] = {}


class Tallies:
    def __init__(self) -> None:
        self._namespaces: dict[str, _Namespace] = {}

    @property
    def namespaces(self) -> Iterable[str]:
        """Those that have placed pods."""
        return self._namespaces

    def add(self, placed: Placed) -> None:
        metadata = placed.pod.metadata
        namespace = self._namespaces.get(metadata.namespace)
        if namespace is None:
            namespace = self._namespaces[metadata.namespace] = _Namespace()
        namespace.pods[metadata.key] = placed
        if namespace.tallies:
            _count(namespace, placed, +1)

    def remove(self, placed: Placed) -> None:
        metadata = placed.pod.metadata
        namespace = self._namespaces[metadata.namespace]
        del namespace.pods[metadata.key]
        if not namespace.pods:
            del self._namespaces[metadata.namespace]
        elif namespace.tallies:
            _count(namespace, placed, -1)

    def found(self, namespace: str, pods: PodSelector, *, leaving: bool) -> Mapping[str, int]:
        """Node -> how many pods of the namespace the selector finds there, with or without those that are leaving."""
        there = self._namespaces.get(namespace)
        if there is None:
            return _NONE
        tally = there.tallies.get((pods, leaving))
        if tally is None:
            tally = {}
            for placed in there.pods.values():
                if pods.matches(placed.pod.metadata.labels) and (leaving or not placed.leaving):
                    tally[placed.node] = tally.get(placed.node, 0) + 1
            if len(there.tallies) >= TALLIES:
                del there.tallies[next(iter(there.tallies))]
            there.tallies[pods, leaving] = tally
        return tally


def _count(namespace: _Namespace, placed: Placed, sign: int) -> None:
    labels, node = placed.pod.metadata.labels, placed.node
    for (pods, leaving), tally in namespace.tallies.items():
        if pods.matches(labels) and (leaving or not placed.leaving):
            count = tally.get(node, 0) + sign
            if count:
                tally[node] = count
            else:
                del tally[node]
