"""The ReplicaSet controller keeps as many pods as a ReplicaSet wants. shared/replicas.py does nearly all of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from labctl.controllers.indexes import PODS, REPLICA_SETS
from labctl.controllers.settings import ControllerSettings
from labctl.controllers.shared.ownership import OwnerKind, owned
from labctl.controllers.shared.replicas import Replicas
from labctl.reconcile.plan import Index, View
from labctl.resources.kinds.core_v1.pod_view import Pod

REPLICA_SET = OwnerKind(REPLICA_SETS, "apps/v1", "ReplicaSet")


class ReplicaSets(Replicas):
    """The controller of ReplicaSets."""

    name = "replicaset-controller"
    of = REPLICA_SET

    def __init__(self, settings: ControllerSettings = ControllerSettings()) -> None:  # noqa: B008 - frozen
        super().__init__(settings)
        self.indexes: Mapping[tuple[str, str], Index] = {**self.indexes, **owned(REPLICA_SETS)}

    def status(self, owner: Any, mine: Sequence[Pod], active: Sequence[Pod], ready: int, available: int) -> dict[str, Any]:
        leaving = sum(not pod.finished and pod.metadata.deletion_timestamp is not None for pod in mine)
        return {**super().status(owner, mine, active, ready, available), "terminatingReplicas": leaving}

    def siblings(self, view: View, owner: Any, active: Sequence[Pod]) -> Collection[Pod]:
        """Return its own pods and those of the other ReplicaSets of its Deployment."""
        deployment = owner.metadata.controller
        if deployment is None:
            return active
        sets = view.by(REPLICA_SETS, "controller", deployment.uid)
        return [pod for each in sets for pod in view.by(PODS, "controller", each.metadata.uid) if pod.active]
