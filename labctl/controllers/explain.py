"""`labctl why`: an object's present state, and how it came to it, in sentences.

The functions are pure and read the view and the journal. The present comes from the objects, which are the truth (a file for each group of kinds in
`explaining/`); the past comes from the journal, which may have been lost with an earlier master, and then from Kubernetes' Events. A deleted object has only
its past.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from labctl.controllers.explaining import faults, nodes, pods, services
from labctl.controllers.explaining.elsewhere import Refusal, not_on
from labctl.controllers.explaining.past import Past, past_of
from labctl.controllers.indexes import CLAIMS, MACHINES, NODES, PODS, REPLICATION_CONTROLLERS, SERVICES, VOLUMES
from labctl.controllers.volumes import why as volumes
from labctl.reconcile.plan import Key, View
from labctl.resources.plurals import FAULTS

NODES_TOLD = 50  # nodes of which it is said why a waiting pod is not there

Refusals = Callable[[View, Key], Sequence[str]]
"""Why a waiting pod is on none of the nodes, a line for each node; nothing for others."""


def explain(view: View, journal: Past, kind: str, key: Key, refusals: Refusals = lambda _view, _key: ()) -> list[str]:
    """Return what it is now, a line each; then its past, oldest first. [] for what does not exist and of which nothing is remembered."""
    thing = view.get(kind, key)
    past = past_of(view, journal, kind, key, thing)
    if thing is None:
        return [f"There is no {key} among the {kind.partition('.')[0]} now.", *past] if past else []
    refused = refusals(view, key) if kind == PODS else ()
    return [*PRESENT.get(kind, _any)(view, thing), *(f"  {line}" for line in refused[:NODES_TOLD]), *past]


def explain_not_on(view: View, journal: Past, key: Key, node: str, refusal: Refusal) -> list[str]:
    """Why a pod is not on a node. Nothing, for a pod that is not there."""
    return list(not_on(view, journal.lines, key, node, refusal)) if view.get(PODS, key) is not None else []


def _any(_view: View, thing: Any) -> Iterator[str]:
    if thing.metadata.deletion_timestamp:
        waits = ", ".join(thing.metadata.finalizers)
        yield f"It is being deleted{f', and waits for {waits}' if waits else ''}."
    else:
        yield "It exists."
    for owner in thing.metadata.owner_references:
        yield f"It belongs to {owner.kind} {owner.name}."


PRESENT: dict[str, Callable[[View, Any], Iterator[str]]] = {
    PODS: pods.pod_now,
    REPLICATION_CONTROLLERS: services.replication_controller,
    SERVICES: services.service_now,
    NODES: nodes.node_now,
    MACHINES: nodes.machine_now,
    FAULTS: faults.fault_now,
    CLAIMS: volumes.claim,
    VOLUMES: volumes.volume,
}
