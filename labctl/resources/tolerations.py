"""Whether a pod tolerates a taint: the scheduler asks before it places a pod, evictions while it stays."""

from __future__ import annotations

from collections.abc import Iterable

from labctl.resources.kinds.core_v1.node import Taint
from labctl.resources.kinds.core_v1.pod_view import Toleration


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """As Kubernetes' Toleration.ToleratesTaint: an absent effect or key is any; Lt and Gt are not served."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.value == taint.value


def tolerated(taint: Taint, tolerations: Iterable[Toleration]) -> bool:
    """Whether any of a pod's tolerations tolerates the taint."""
    return any(tolerates(toleration, taint) for toleration in tolerations)
