"""The pods of a controller: made from its template, ordered for deletion, counted when they are available."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from labctl.clock import parse_rfc3339
from labctl.controllers.indexes import PODS, READY
from labctl.controllers.shared.ownership import OwnerKind
from labctl.reconcile.plan import Action, Create, Delete, Record, View
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.shared import condition
from labctl.resources.verbs.meta import generated

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}
_TEMPLATE_FIELDS = ("labels", "annotations", "finalizers")


def creations(of: OwnerKind, owner: Any, count: int, rng: Random, why: str) -> list[Action]:
    """Create `count` pods with generated names. If a name is drawn twice, it is made once, and the next plan makes the rest."""
    template = msgspec.json.decode(owner.spec.template)
    names = {generated(f"{owner.metadata.name}-", rng): None for _ in range(count)}
    return [creation(of, owner, name, template, why) for name in names]


def creation(of: OwnerKind, owner: Any, name: str, template: Mapping[str, Any], why: str) -> Action:
    pod = from_template(of, owner, name, template)
    pod["metadata"]["generateName"] = f"{owner.metadata.name}-"
    return Create(PODS, pod, f"created by {of.named(owner)}, {why}", event(of, owner, "SuccessfulCreate", f"Created pod: {name}"))


def from_template(of: OwnerKind, owner: Any, name: str, template: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pod from the template, owned by `owner`. Its maps are copies, so they may be changed."""
    given = template.get("metadata") or {}
    metadata = {
        **{field: type(given[field])(given[field]) for field in _TEMPLATE_FIELDS if given.get(field)},
        "name": name,
        "namespace": owner.metadata.namespace,
        "ownerReferences": [of.reference(owner)],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": dict(template.get("spec") or {})}


def deletion(of: OwnerKind, owner: Any, pod: Pod, why: str) -> Action:
    said = event(of, owner, "SuccessfulDelete", f"Deleted pod: {pod.metadata.name}")
    return Delete(PODS, pod.metadata.key, pod.metadata.uid, why=f"deleted by {of.named(owner)}, {why}", event=said)


def event(of: OwnerKind, owner: Any, reason: str, message: str, type_: str = "Normal") -> Record:
    return Record(of.resource, owner.metadata.key, reason, message, type_)


def least_useful_first(together_with: Collection[Pod]) -> Callable[[Pod], Any]:
    """Return a sort key that puts the pod to delete first, in Kubernetes' order (ActivePodsWithRanks).

    `together_with` are the pods of the owner and of its siblings, which should be spread over nodes.
    """
    on_node = Counter(pod.spec.node_name for pod in together_with)

    def rank(pod: Pod) -> tuple[Any, ...]:
        ready = condition(pod.status.conditions, "Ready")
        return (
            bool(pod.spec.node_name),
            _PHASES.get(pod.status.phase, 0),
            pod.ready,
            _deletion_cost(pod),
            -on_node[pod.spec.node_name],
            -_time(ready.last_transition_time if ready and pod.ready else ""),
            -max((status.restart_count for status in pod.status.container_statuses), default=0),
            -_time(pod.metadata.creation_timestamp),
            pod.metadata.name,
        )

    return rank


def _time(text: str | None) -> float:
    return parse_rfc3339(text) if text else 0.0


def _deletion_cost(pod: Pod) -> int:
    try:
        return int(pod.metadata.annotations.get(DELETION_COST, "0"))
    except ValueError:
        return 0


def available(view: View, ready: Sequence[Pod], min_ready_s: int, now: float) -> tuple[list[Pod], float | None]:
    """Return the pods that have been ready for minReadySeconds, and in how many seconds the next one will be available."""
    if not min_ready_s:
        return list(ready), None
    left = {pod.metadata.key: min_ready_s - (now - view.since(PODS, "ready", READY, pod.metadata.key)) for pod in ready}
    there = [pod for pod in ready if left[pod.metadata.key] <= 0]
    return there, min((left_s for left_s in left.values() if left_s > 0), default=None)
