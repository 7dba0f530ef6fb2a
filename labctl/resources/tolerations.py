"""This module decides whether a pod tolerates a taint: before the scheduler binds it, and for evictions while it runs."""

from __future__ import annotations

from collections.abc import Iterable

from labctl.resources.kinds.core_v1.node import Taint
from labctl.resources.kinds.core_v1.pod_view import Toleration


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Decides like Kubernetes' Toleration.ToleratesTaint. A missing effect or key matches any; the operators Lt and Gt are not supported."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.value == taint.value


def tolerated(taint: Taint, tolerations: Iterable[Toleration]) -> bool:
    """True if any of a pod's tolerations tolerates the taint."""
    return any(tolerates(toleration, taint) for toleration in tolerations)
