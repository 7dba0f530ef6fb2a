"""Safety: a pod's name stands for at most one running pod, whatever nodes do. Fencing exists for this."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.sim.hollow import Fleet


def two_of_one(fleet: Fleet) -> Iterator[str]:
    """Yield pods of one name that really run on two nodes at once."""
    for key, nodes in sorted(fleet.running().items()):
        if len(nodes) > 1:
            yield f"pod {key} runs on {' and '.join(sorted(node.name for node in nodes))} at once"
