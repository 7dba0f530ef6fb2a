"""The Deployment controller: what one Deployment needs now.

    claim its ReplicaSets ─► which is the new one ─┬► paused, or scaled: sizes in proportion
                                                   ├► Recreate: old ones to zero, then the new one
                                                   └► RollingUpdate: the new one grows, or old ones shrink
    and always: annotations, history, status with its conditions

The arithmetic is in sizing.py, what is written on a ReplicaSet in sets.py, the conditions in conditions.py. One plan does one step; the next is planned
when the ReplicaSets' status has changed. The ReplicaSet controller makes the pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from labctl.clock import rfc3339
from labctl.controllers.deployment import conditions, sets, sizing
from labctl.controllers.deployment.conditions import DEPLOYMENTS_PROGRESS, NewCondition
from labctl.controllers.deployment.sets import DEPLOYMENT
from labctl.controllers.indexes import DEPLOYMENTS, PODS, REPLICA_SETS
from labctl.controllers.shared import templates
from labctl.controllers.shared.ownership import claim, concerned, owned, owners
from labctl.controllers.shared.pods import event
from labctl.reconcile.plan import NOTHING, Action, Create, Delete, Index, Key, Patch, Plan, Seen, View
from labctl.resources.kinds.apps_v1.deployment import Deployment
from labctl.resources.kinds.apps_v1.replicaset import ReplicaSet


class Rollout(NamedTuple):
    """One Deployment as a plan sees it. `sets` are all of its ReplicaSets, the oldest first; `old` are all but the new one."""

    view: View
    deployment: Deployment
    sets: Sequence[ReplicaSet]
    new: ReplicaSet | None
    surge: int
    unavailable: int
    now: float

    @property
    def old(self) -> list[ReplicaSet]:
        return [each for each in self.sets if each is not self.new]

    @property
    def total(self) -> int:
        return sum(each.spec.replicas for each in self.sets)

    @property
    def counts(self) -> conditions.Counts:
        return conditions.count(self.sets, self.new)


class Deployments:
    """The controller that the module's docstring describes."""

    name = "deployment-controller"
    kind = DEPLOYMENTS

    def __init__(self) -> None:
        self.watches = {DEPLOYMENTS: lambda _view, seen: (seen.key,), REPLICA_SETS: _of_set, PODS: _of_pod}
        self.indexes: Mapping[tuple[str, str], Index] = {
            **owned(REPLICA_SETS),
            **owned(PODS),
            **owners(DEPLOYMENTS),
            **DEPLOYMENTS_PROGRESS,
        }

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        deployment: Deployment | None = view.get(DEPLOYMENTS, key)
        if deployment is None:
            return NOTHING
        claimed = claim(view, DEPLOYMENT, deployment, deployment.pod_selector, REPLICA_SETS, lambda _found: True)
        found = sets.oldest_first(claimed.mine)
        spec = deployment.spec
        surge, unavailable = sizing.fenceposts(*spec.strategy.limits, spec.replicas)
        rollout = Rollout(view, deployment, found, sets.find_new(deployment, found), surge, unavailable, now)
        if deployment.metadata.deletion_timestamp is not None:
            return _report(rollout, claimed.actions)
        return _report(rollout, [*claimed.actions, *_steps(rollout)])


def _steps(rollout: Rollout) -> Iterable[Action]:
    """Return the writes of this moment, except for the status."""
    if rollout.deployment.spec.paused:
        return [*_scaled(rollout), *_forget(rollout)]
    if _was_scaled(rollout):
        return [*_scaled(rollout), *_annotate(rollout)]
    step = _recreate if rollout.deployment.spec.strategy.recreates else _roll
    return [*step(rollout), *_annotate(rollout), *_forget(rollout)]


# -- steps -----------------------------------------------------------------------------------------------------------------------------


def _roll(rollout: Rollout) -> Iterable[Action]:
    new, wanted = rollout.new, rollout.deployment.spec.replicas
    if new is None:
        return _make_new(rollout, sizing.size_of_new(wanted, 0, rollout.total, rollout.surge))
    size = sizing.size_of_new(wanted, new.spec.replicas, rollout.total, rollout.surge)
    if size != new.spec.replicas:
        return [_resize(rollout, new, size)]
    return _resized(rollout, sizing.shrunk([_sized(each) for each in rollout.old], _sized(new), wanted, rollout.unavailable))


def _recreate(rollout: Rollout) -> Iterable[Action]:
    running = [each for each in rollout.old if each.spec.replicas]
    if running:
        return [_resize(rollout, each, 0) for each in running]
    if any(not pod.finished for each in rollout.old for pod in rollout.view.by(PODS, "controller", each.metadata.uid)):
        return ()
    wanted = rollout.deployment.spec.replicas
    if rollout.new is None:
        return _make_new(rollout, wanted)
    return [_resize(rollout, rollout.new, wanted)] if rollout.new.spec.replicas != wanted else ()


def _make_new(rollout: Rollout, replicas: int) -> Iterable[Action]:
    """Make the ReplicaSet of the template. If its name belongs to another template, the next plan takes another name."""
    deployment = rollout.deployment
    collisions = deployment.status.collision_count or 0
    word = templates.hash_of(deployment.spec.template, collisions)
    name = f"{deployment.metadata.name}-{word}"
    taken: ReplicaSet | None = rollout.view.get(REPLICA_SETS, f"{deployment.metadata.namespace}/{name}")
    if taken is not None:
        status = {"status": {"collisionCount": collisions + 1}}
        return [Patch(DEPLOYMENTS, deployment.metadata.key, status, "status", why=f"replicaset {name} is of another template")]
    return [sets.new_set(deployment, name, word, replicas, _next_revision(rollout), rollout.surge)]


def _was_scaled(rollout: Rollout) -> bool:
    wanted = rollout.deployment.spec.replicas
    return any(each.spec.replicas and sets.annotated(each, sets.DESIRED) not in (None, wanted) for each in rollout.sets)


def _scaled(rollout: Rollout) -> Iterable[Action]:
    """Size every active set in proportion, because the Deployment was scaled, or is paused and may be scaled."""
    deployment, wanted = rollout.deployment, rollout.deployment.spec.replicas
    active = [each for each in rollout.sets if each.spec.replicas]
    if len(active) <= 1:
        only = active[0] if active else rollout.new or (rollout.old[-1] if rollout.old else None)
        due = only is not None and (only.spec.replicas != wanted or sets.annotated(only, sets.DESIRED) != wanted)
        return [_resize(rollout, only, wanted)] if only is not None and due else ()
    if rollout.new is not None and _saturated(rollout.new, wanted):
        return [_resize(rollout, each, 0) for each in rollout.old if each.spec.replicas]
    if deployment.spec.strategy.recreates:
        return ()
    growing = wanted + rollout.surge > rollout.total
    ordered = sorted(reversed(active) if growing else active, key=lambda each: -each.spec.replicas)
    sizes = sizing.in_proportion([_sized(each) for each in ordered], wanted, rollout.surge, deployment.status.replicas)
    return [_resize(rollout, each, sizes.get(each.metadata.name, each.spec.replicas)) for each in active]


def _saturated(new: ReplicaSet, wanted: int) -> bool:
    return new.spec.replicas == wanted == new.status.available_replicas and sets.annotated(new, sets.DESIRED) == wanted


def _sized(each: ReplicaSet) -> sizing.Sized:
    return sizing.Sized(each.metadata.name, each.spec.replicas, each.status.available_replicas, sets.annotated(each, sets.MAX))


def _resized(rollout: Rollout, sizes: Mapping[str, int]) -> list[Action]:
    return [_resize(rollout, each, sizes[each.metadata.name]) for each in rollout.sets if each.metadata.name in sizes]


def _resize(rollout: Rollout, each: ReplicaSet, size: int) -> Action:
    deployment, before = rollout.deployment, each.spec.replicas
    patch = {"metadata": {"annotations": sets.sizes(deployment, rollout.surge)}, "spec": {"replicas": size}}
    if size == before:
        return Patch(REPLICA_SETS, each.metadata.key, patch, revision=each.metadata.revision)
    said = f"Scaled {'up' if size > before else 'down'} replica set {each.metadata.name} from {before} to {size}"
    why = f"{said}, as deployment {deployment.metadata.name} wants"
    return Patch(
        REPLICA_SETS,
        each.metadata.key,
        patch,
        revision=each.metadata.revision,
        why=why,
        event=event(DEPLOYMENT, deployment, "ScalingReplicaSet", said),
    )


# -- annotations and history -----------------------------------------------------------------------------------------------------------


def _next_revision(rollout: Rollout) -> int:
    return max((sets.revision(each) for each in rollout.old), default=0) + 1


def _annotate(rollout: Rollout) -> Iterator[Action]:
    """Write the revision on the new set, and the same one on the Deployment."""
    deployment, new = rollout.deployment, rollout.new
    if new is None:
        number = _next_revision(rollout)
    else:
        due = sets.annotations_due(deployment, new, _next_revision(rollout))
        number = int(due.get(sets.REVISION, sets.revision(new)))
        ready_s = deployment.spec.min_ready_seconds
        patch: dict[str, Any] = {"metadata": {"annotations": dict(due)}} if due else {}
        if new.spec.min_ready_seconds != ready_s:
            patch["spec"] = {"minReadySeconds": ready_s}
        if patch:
            yield Patch(REPLICA_SETS, new.metadata.key, patch)
    if sets.revision(deployment) != number:
        annotations = {"metadata": {"annotations": {sets.REVISION: str(number)}}}
        yield Patch(DEPLOYMENTS, deployment.metadata.key, annotations)


def _forget(rollout: Rollout) -> Iterator[Action]:
    """Delete old sets above the history's limit, the oldest revision first, once the rollout is done."""
    limit = rollout.deployment.spec.revision_history_limit
    if limit is None or not conditions.complete(rollout.deployment, rollout.counts):
        return
    empty = [
        each
        for each in rollout.old
        if not each.spec.replicas
        and not each.status.replicas
        and each.status.observed_generation >= each.metadata.generation
        and each.metadata.deletion_timestamp is None
    ]
    for each in sorted(empty, key=sets.revision)[: max(0, len(rollout.old) - limit)]:
        why = f"deployment {rollout.deployment.metadata.name} keeps {limit} old revisions"
        yield Delete(REPLICA_SETS, each.metadata.key, each.metadata.uid, propagation="Background", why=why)


# -- status ----------------------------------------------------------------------------------------------------------------------------


def _report(rollout: Rollout, actions: Sequence[Action]) -> Plan:
    """Return the plan: the actions, and the status that goes with them."""
    deployment, counts = rollout.deployment, rollout.counts
    made = next((action for action in actions if isinstance(action, Create)), None)
    progressing, again_s = conditions.progress(rollout.view, deployment, counts, rollout.new, rollout.now)
    if made is not None and progressing is not None:
        name = made.object["metadata"]["name"]
        progressing, again_s = NewCondition(conditions.PROGRESSING, "True", conditions.MADE, f'Created new replica set "{name}"'), None
    failure = conditions.failure((rollout.new, *rollout.old) if rollout.new else rollout.old)
    wanted = (conditions.availability(deployment, counts, rollout.unavailable), progressing, failure)
    status: dict[str, Any] = {
        "observedGeneration": deployment.metadata.generation,
        "replicas": counts.replicas,
        "updatedReplicas": counts.updated,
        "readyReplicas": counts.ready,
        "availableReplicas": counts.available,
        "unavailableReplicas": max(0, rollout.total - counts.available),
        "terminatingReplicas": counts.terminating,
    }
    stamp = rfc3339(rollout.view.wall())
    said = conditions.written(deployment, wanted, conditions.moved(deployment, counts), stamp)
    if status == deployment.status.numbers() and said == deployment.status.plain_conditions():
        return Plan(actions, again_s)
    shown = {name: number or None for name, number in status.items()}  # zeros are left out, as in Kubernetes
    patch = Patch(DEPLOYMENTS, deployment.metadata.key, {"status": {**shown, "conditions": said}}, subresource="status")
    return Plan([*actions, patch], again_s)


# -- whom a change concerns ------------------------------------------------------------------------------------------------------------


def _of_set(view: View, seen: Seen) -> Iterator[Key]:
    return concerned(view, DEPLOYMENT, seen)


def _of_pod(view: View, seen: Seen) -> Iterator[Key]:
    """Yield the Deployment of a pod that is gone or finished: one that recreates may wait for that."""
    pod = seen.old
    if pod is None or pod.finished or (seen.new is not None and not seen.new.finished):
        return
    owner = pod.metadata.controller
    each = view.get(REPLICA_SETS, f"{pod.metadata.namespace}/{owner.name}") if owner and owner.kind == "ReplicaSet" else None
    above = each.metadata.controller if each else None
    if above is not None and above.kind == "Deployment":
        yield f"{pod.metadata.namespace}/{above.name}"
