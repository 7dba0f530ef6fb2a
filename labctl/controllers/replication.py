"""The replication controller: as many pods as the ReplicationController says, made from its template.

It adopts pods that match and belong to nobody, releases those that match no more, makes what is missing (carefully at first: as many as are there
already, so that a template nobody can create costs little) and deletes the surplus in Kubernetes' order, least useful first.
A pod counts while it is active: neither finished nor leaving. It starts no pod and knows no node's health: who died stops being active.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from labctl.clock import parse_rfc3339
from labctl.controllers.indexes import (
    PODS,
    PODS_BY_CONTROLLER,
    PODS_READY,
    PODS_UNOWNED,
    READY,
    REPLICATION_CONTROLLERS,
    by_selector,
    matches,
    selected_pods,
    selecting,
)
from labctl.controllers.settings import ControllerSettings
from labctl.reconcile.plan import NOTHING, Action, Create, Delete, Index, Key, Patch, Plan, Record, Seen, View
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.core_v1.replicationcontroller import ReplicationController
from labctl.resources.kinds.shared import condition
from labctl.resources.verbs.meta import generated

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


class Replication:
    name = "replication-controller"
    kind = REPLICATION_CONTROLLERS

    def __init__(self, settings: ControllerSettings = ControllerSettings()) -> None:  # noqa: B008 - frozen
        self._settings = settings
        self.watches = {REPLICATION_CONTROLLERS: lambda _view, seen: (seen.key,), PODS: _concerned}
        self.indexes: Mapping[tuple[str, str], Index] = {
            **PODS_UNOWNED,
            **PODS_BY_CONTROLLER,
            **PODS_READY,
            **by_selector(REPLICATION_CONTROLLERS),
        }

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        rc: ReplicationController | None = view.get(REPLICATION_CONTROLLERS, key)
        if rc is None:
            return NOTHING
        leaving = rc.metadata.deletion_timestamp is not None
        mine, claims = _claim(view, rc, leaving)
        active = [pod for pod in mine if pod.active]
        ready = [pod for pod in active if pod.ready]
        available, again_s = _available(view, rc, ready, now)
        scaling = () if leaving else self._scale(rc, active, rng)
        return Plan([*claims, *scaling, *_status(rc, active, len(ready), available)], again_s)

    def _scale(self, rc: ReplicationController, active: Sequence[Pod], rng: Random) -> Iterable[Action]:
        missing = rc.spec.replicas - len(active)
        if missing > 0:
            count = min(missing, max(len(active), self._settings.slow_start), self._settings.burst)
            return _creations(rc, count, rng)
        if missing < 0:
            surplus = sorted(active, key=_usefulness(active))[: min(-missing, self._settings.burst)]
            return [_deletion(rc, pod) for pod in surplus]
        return ()


def _concerned(view: View, seen: Seen) -> Iterator[Key]:
    """The controllers that a pod's change concerns. Where it runs and what its containers do concerns nobody here."""
    old, new = seen.old, seen.new
    if old is not None and new is not None and _digest(old) == _digest(new):
        return
    for pod in (old, new):
        if pod is None:
            continue
        owner = pod.metadata.controller
        if owner is None:
            yield from selecting(view, REPLICATION_CONTROLLERS, pod.metadata.namespace, pod.metadata.labels)
        elif owner.kind == "ReplicationController":
            yield f"{pod.metadata.namespace}/{owner.name}"


def _digest(pod: Pod) -> tuple[Any, ...]:
    return pod.metadata.labels, pod.metadata.owner_references, pod.active, pod.ready


# -- whose pods ------------------------------------------------------------------------------------------------------------------------


def _claim(view: View, rc: ReplicationController, leaving: bool) -> tuple[list[Pod], list[Action]]:
    """The pods it counts on, and what makes them its own or no longer so."""
    mine: list[Pod] = []
    actions: list[Action] = []
    for pod in view.by(PODS, "controller", rc.metadata.uid):
        if matches(rc.spec.selector, pod.metadata.labels):
            mine.append(pod)
        elif pod.metadata.deletion_timestamp is None and not leaving:
            actions.append(_release(rc, pod))
    if leaving:
        return mine, actions
    for pod in selected_pods(view, rc.metadata.namespace, rc.spec.selector, "unowned"):
        if pod.active:
            mine.append(pod)
            actions.append(_adopt(rc, pod))
    return mine, actions


def _adopt(rc: ReplicationController, pod: Pod) -> Action:
    owners = [*(_plain(owner) for owner in pod.metadata.owner_references), _reference(rc)]
    why = f"adopted by replicationcontroller {rc.metadata.name}: its labels match and it had no controller"
    return Patch(PODS, pod.metadata.key, {"metadata": {"ownerReferences": owners}}, revision=pod.metadata.revision, why=why)


def _release(rc: ReplicationController, pod: Pod) -> Action:
    owners = [_plain(owner) for owner in pod.metadata.owner_references if owner.uid != rc.metadata.uid]
    why = f"released by replicationcontroller {rc.metadata.name}: its labels no longer match"
    return Patch(PODS, pod.metadata.key, {"metadata": {"ownerReferences": owners or None}}, revision=pod.metadata.revision, why=why)


def _reference(rc: ReplicationController) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "name": rc.metadata.name,
        "uid": rc.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _plain(owner: Any) -> dict[str, Any]:
    return {key: value for key, value in msgspec.to_builtins(owner).items() if value is not None}


# -- more and fewer --------------------------------------------------------------------------------------------------------------------


def _creations(rc: ReplicationController, count: int, rng: Random) -> list[Action]:
    template = msgspec.json.decode(rc.spec.template)
    names = {generated(f"{rc.metadata.name}-", rng): None for _ in range(count)}  # a name drawn twice is drawn again by the next plan
    return [_creation(rc, name, template) for name in names]


def _creation(rc: ReplicationController, name: str, template: dict[str, Any]) -> Action:
    given = template.get("metadata") or {}
    metadata = {
        **{field: given[field] for field in ("labels", "annotations", "finalizers") if given.get(field)},
        "name": name,
        "generateName": f"{rc.metadata.name}-",
        "namespace": rc.metadata.namespace,
        "ownerReferences": [_reference(rc)],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.get("spec") or {}}
    why = f"created by replicationcontroller {rc.metadata.name}, which wants {rc.spec.replicas}"
    return Create(PODS, pod, why, _event(rc, "SuccessfulCreate", f"Created pod: {name}"))


def _deletion(rc: ReplicationController, pod: Pod) -> Action:
    why = f"deleted by replicationcontroller {rc.metadata.name}, which wants only {rc.spec.replicas}"
    event = _event(rc, "SuccessfulDelete", f"Deleted pod: {pod.metadata.name}")
    return Delete(PODS, pod.metadata.key, pod.metadata.uid, why=why, event=event)


def _event(rc: ReplicationController, reason: str, message: str) -> Record:
    return Record(REPLICATION_CONTROLLERS, rc.metadata.key, reason, message)


def _usefulness(active: Sequence[Pod]) -> Any:
    """A sort key: the least useful pod first, as Kubernetes ranks them (ActivePodsWithRanks)."""
    together = Counter(pod.spec.node_name for pod in active)

    def rank(pod: Pod) -> tuple[Any, ...]:
        ready = condition(pod.status.conditions, "Ready")
        return (
            bool(pod.spec.node_name),
            PHASES.get(pod.status.phase, 0),
            pod.ready,
            _deletion_cost(pod),
            -together[pod.spec.node_name],
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


# -- status ----------------------------------------------------------------------------------------------------------------------------


def _available(view: View, rc: ReplicationController, ready: Sequence[Pod], now: float) -> tuple[int, float | None]:
    """How many pods have been ready for minReadySeconds, and when the next one will have been."""
    wanted_s = rc.spec.min_ready_seconds
    if not wanted_s:
        return len(ready), None
    left = [wanted_s - (now - view.since(PODS, "ready", READY, pod.metadata.key)) for pod in ready]
    waiting = [left_s for left_s in left if left_s > 0]
    return len(ready) - len(waiting), min(waiting, default=None)


def _status(rc: ReplicationController, active: Sequence[Pod], ready: int, available: int) -> Iterator[Action]:
    labels = rc.spec.pod_template().metadata.labels
    status = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(matches(labels, pod.metadata.labels) for pod in active),
        "readyReplicas": ready,
        "availableReplicas": available,
        "observedGeneration": rc.metadata.generation,
    }
    seen = rc.status
    now = (seen.replicas, seen.fully_labeled_replicas, seen.ready_replicas, seen.available_replicas, seen.observed_generation)
    if now != tuple(status.values()):
        yield Patch(REPLICATION_CONTROLLERS, rc.metadata.key, {"status": status}, subresource="status")
