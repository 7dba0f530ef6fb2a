"""The replication controller keeps as many pods as a ReplicationController wants. shared/replicas.py does all of it."""

from __future__ import annotations

from labctl.controllers.indexes import REPLICATION_CONTROLLERS
from labctl.controllers.shared.ownership import OwnerKind
from labctl.controllers.shared.replicas import Replicas


class Replication(Replicas):
    """The controller of ReplicationControllers."""

    name = "replication-controller"
    of = OwnerKind(REPLICATION_CONTROLLERS, "v1", "ReplicationController")
