"""Which objects a fault hits: people find its Events there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labctl.reconcile.plan import View
from labctl.resources.kinds.labctl_internal_v1.fault import Fault
from labctl.resources.plurals import MACHINES, NODES, PODS

NODE_USER = "system:node:"


def victims(fault: Fault, view: View) -> Sequence[Any]:
    """Returns the Machine and the Node, the Pod, or the Node whose agent is the client; none for the master and for people."""
    places = []
    if fault.form == "machine":
        places = [(MACHINES, fault.machine), (NODES, fault.machine)]
    elif fault.form == "pod":
        namespace, name, _ = fault.pod
        places = [(PODS, f"{namespace}/{name}")]
    elif fault.client.startswith(NODE_USER):
        places = [(NODES, fault.client.removeprefix(NODE_USER))]
    return [found for kind, key in places if (found := view.get(kind, key)) is not None]
