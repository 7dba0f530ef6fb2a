"""Why a node does not take a pod."""

from __future__ import annotations


class Refusal:
    """In today's Kubernetes' words; some filters give several reasons. `final`: no pod's going would change it, so preemption is no help."""

    __slots__ = ("reasons", "final")

    def __init__(self, *reasons: str, final: bool = False) -> None:
        self.reasons, self.final = reasons, final
