"""A Deployment's status: counts, Available, and Progressing with its deadline.

Progressing is True while something changes, True with NewReplicaSetAvailable when all is done, False with ProgressDeadlineExceeded when
nothing changed for
spec.progressDeadlineSeconds, and Unknown while the Deployment is paused. `kubectl rollout status` reads nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from labctl.controllers.conditions import plain
from labctl.controllers.indexes import DEPLOYMENTS
from labctl.controllers.shared.replicas import FAILURE
from labctl.reconcile.plan import Index, View
from labctl.resources.kinds.apps_v1.deployment import Deployment
from labctl.resources.kinds.apps_v1.replicaset import ReplicaSet
from labctl.resources.kinds.shared import condition

AVAILABLE, PROGRESSING = "Available", "Progressing"
DONE, MOVES, LATE = "NewReplicaSetAvailable", "ReplicaSetUpdated", "ProgressDeadlineExceeded"
MADE, FOUND = "NewReplicaSetCreated", "FoundNewReplicaSet"
PAUSED, RESUMED = "DeploymentPaused", "DeploymentResumed"
NO_DEADLINE = 2**31 - 1


class Counts(NamedTuple):
    replicas: int
    updated: int
    ready: int
    available: int
    terminating: int


class NewCondition(NamedTuple):
    """A condition that is to be written: type, status, reason, message."""

    type: str
    status: str
    reason: str
    message: str


def _progress(view: Any) -> Sequence[str]:
    said = condition(view.status.conditions, PROGRESSING)
    return (f"{said.reason} {said.last_update_time}",) if said else ()


DEPLOYMENTS_PROGRESS: dict[tuple[str, str], Index] = {(DEPLOYMENTS, "progress"): _progress}


def count(sets: Sequence[ReplicaSet], new: ReplicaSet | None) -> Counts:
    return Counts(
        sum(each.status.replicas for each in sets),
        new.status.replicas if new else 0,
        sum(each.status.ready_replicas for each in sets),
        sum(each.status.available_replicas for each in sets),
        sum(each.status.terminating_replicas for each in sets),
    )


def complete(deployment: Deployment, counts: Counts) -> bool:
    wanted = deployment.spec.replicas
    return counts.updated == wanted and counts.replicas == wanted and counts.available == wanted


def availability(deployment: Deployment, counts: Counts, unavailable: int) -> NewCondition:
    if counts.available >= deployment.spec.replicas - unavailable:
        return NewCondition(AVAILABLE, "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    return NewCondition(AVAILABLE, "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")


def progress(
    view: View, deployment: Deployment, counts: Counts, new: ReplicaSet | None, now: float
) -> tuple[NewCondition | None, float | None]:
    """Return the wanted Progressing condition (None for none), and the seconds until its deadline."""
    if deployment.spec.progress_deadline_seconds in (None, NO_DEADLINE):
        return None, None
    said = condition(deployment.status.conditions, PROGRESSING)
    before = NewCondition(PROGRESSING, said.status, said.reason, said.message) if said else None
    if deployment.spec.paused:
        return NewCondition(PROGRESSING, "Unknown", PAUSED, "Deployment is paused"), None
    if before and before.reason == PAUSED:
        return NewCondition(PROGRESSING, "Unknown", RESUMED, "Deployment is resumed"), None
    subject = f'ReplicaSet "{new.metadata.name}"' if new else f'Deployment "{deployment.metadata.name}"'
    if before and before.reason == DONE and counts.replicas == counts.updated:
        return before, None  # a finished rollout stays finished, whatever happens to its pods
    if complete(deployment, counts):
        return NewCondition(PROGRESSING, "True", DONE, f"{subject} has successfully progressed."), None
    if before is None or _moved(deployment, counts) or (before.reason == DONE and counts.replicas != counts.updated):
        return NewCondition(PROGRESSING, "True", MOVES, f"{subject} is progressing."), None
    if before.reason in (DONE, LATE):
        return before, None
    return _watched(view, deployment, before, subject, now)


def _watched(view: View, deployment: Deployment, before: NewCondition, subject: str, now: float) -> tuple[NewCondition, float | None]:
    """Return the condition while nothing changes: it depends on how long that has lasted."""
    deadline_s = deployment.spec.progress_deadline_seconds or 0
    value = next(iter(_progress(deployment)), "")
    left_s = deadline_s - (now - view.since(DEPLOYMENTS, "progress", value, deployment.metadata.key))
    if left_s > 0:
        return before, left_s
    return NewCondition(PROGRESSING, "False", LATE, f"{subject} has timed out progressing."), None


def _moved(deployment: Deployment, counts: Counts) -> bool:
    """More updated, fewer old, more ready or more available pods than the status says."""
    seen = deployment.status
    old_then, old_now = seen.replicas - seen.updated_replicas, counts.replicas - counts.updated
    return (
        counts.updated > seen.updated_replicas
        or old_now < old_then
        or counts.ready > seen.ready_replicas
        or counts.available > seen.available_replicas
    )


def written(deployment: Deployment, wanted: Sequence[NewCondition | None], moved: bool, stamp: str) -> list[dict[str, Any]]:
    """Return the conditions for the status; those of others stay, behind ours. With `moved`, the Progressing condition was confirmed again at `stamp`."""
    result = []
    for said in wanted:
        if said is None:
            continue
        before = condition(deployment.status.conditions, said.type)
        same = before is not None and (before.status, before.reason, before.message) == said[1:]
        update = before.last_update_time if before and same and not (moved and said.type == PROGRESSING) else stamp
        transition = before.last_transition_time if before and before.status == said.status else stamp
        whole = {**said._asdict(), "lastUpdateTime": update, "lastTransitionTime": transition}
        result.append({name: value for name, value in whole.items() if value})
    mine = (AVAILABLE, PROGRESSING, FAILURE)
    return result + [plain(other) for other in deployment.status.conditions if other.type not in mine]


def failure(sets: Sequence[ReplicaSet]) -> NewCondition | None:
    """Return what the first ReplicaSet says that can't make its pods; None if all can."""
    found = next((said for each in sets if (said := condition(each.status.conditions, FAILURE))), None)
    return NewCondition(FAILURE, found.status, found.reason, found.message) if found else None


def moved(deployment: Deployment, counts: Counts) -> bool:
    said = condition(deployment.status.conditions, PROGRESSING)
    return said is not None and said.reason == MOVES and _moved(deployment, counts) and not deployment.spec.paused
