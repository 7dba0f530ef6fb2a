"""Safety: a pod's name stands for at most one running pod, whatever nodes do: no pod of a StatefulSet runs twice. Fencing exists for this: a pod may be
replaced under its name only when its node is known to be off, or its agent said that it ended.
"""

from __future__ import annotations

from collections.abc import Iterator

from labctl.sim.containers import Running
from labctl.sim.fleet import Fleet
from labctl.sim.hollow import HollowNode


def two_of_one(fleet: Fleet) -> Iterator[str]:
    """Yield pods of one name that really run on two nodes at once."""
    for name, nodes in sorted(fleet.running().items()):
        if len(nodes) > 1:
            yield _twice(name, *nodes)


class Names:
    """Looks at each pod that begins to run. It remembers where a name began last, so a look costs the same in a lab of any size."""

    def __init__(self) -> None:
        self._began: dict[str, tuple[HollowNode, str]] = {}

    def begins(self, node: HollowNode, pod: Running) -> Iterator[str]:
        other, uid = self._began.get(pod.key, (node, pod.uid))
        self._began[pod.key] = (node, pod.uid)
        if other is not node and uid in other.running:
            yield _twice(pod.key, node, other)


def _twice(name: str, *nodes: HollowNode) -> str:
    return f"pod {name} runs on {' and '.join(sorted(node.name for node in nodes))} at once"
