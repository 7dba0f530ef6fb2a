"""The ReplicaSets of a Deployment: which is the new one, how old ones are ordered, and what is written on each.

A Deployment's template names its ReplicaSet by a hash; the ReplicaSet's pods carry it in the label `pod-template-hash`, so that pods of two templates are
never mixed. The revision, the wanted size and the most pods at once are in annotations, as in Kubernetes: `kubectl rollout` reads them there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from labctl.controllers.indexes import DEPLOYMENTS, REPLICA_SETS
from labctl.controllers.shared import templates
from labctl.controllers.shared.ownership import OwnerKind
from labctl.controllers.shared.templates import HASH_LABEL
from labctl.reconcile.plan import Create, Record
from labctl.resources.kinds.apps_v1.deployment import Deployment
from labctl.resources.kinds.apps_v1.replicaset import ReplicaSet

DEPLOYMENT = OwnerKind(DEPLOYMENTS, "apps/v1", "Deployment")
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAX = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = frozenset(
    {"kubectl.kubernetes.io/last-applied-configuration", REVISION, HISTORY, DESIRED, MAX, "deprecated.deployment.rollback.to"}
)


def oldest_first(sets: Sequence[ReplicaSet]) -> list[ReplicaSet]:
    return sorted(sets, key=lambda each: (each.metadata.creation_timestamp or "", each.metadata.name))


def find_new(deployment: Deployment, sets: Sequence[ReplicaSet]) -> ReplicaSet | None:
    """Return the oldest ReplicaSet that has the Deployment's template, if any."""
    return next((each for each in oldest_first(sets) if templates.same(each.spec.template, deployment.spec.template)), None)


def revision(of: Any) -> int:
    """Return the revision that a Deployment or ReplicaSet carries, or 0 if it has none that can be read."""
    try:
        return int(of.metadata.annotations.get(REVISION, "0"))
    except ValueError:
        return 0


def annotated(of: ReplicaSet, name: str) -> int | None:
    try:
        return int(of.metadata.annotations[name])
    except (KeyError, ValueError):
        return None


def sizes(deployment: Deployment, surge: int) -> dict[str, str]:
    """Return the annotations with the number of wanted pods, and of the most pods during a rollout."""
    wanted = deployment.spec.replicas
    return {DESIRED: str(wanted), MAX: str(wanted + surge)}


def copied(deployment: Deployment) -> dict[str, str]:
    """Return the Deployment's annotations that its new ReplicaSet carries too."""
    return {key: value for key, value in deployment.metadata.annotations.items() if key not in _NOT_COPIED}


def new_set(deployment: Deployment, name: str, word: str, replicas: int, number: int, surge: int) -> Create:
    """Make the ReplicaSet of the Deployment's template. `number` is its revision."""
    template = msgspec.json.decode(deployment.spec.template)
    labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH_LABEL: word}
    template["metadata"] = {**(template.get("metadata") or {}), "labels": labels}
    selector = msgspec.json.decode(deployment.spec.selector)
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: word}
    whole = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": deployment.metadata.namespace,
            "labels": labels,
            "annotations": {**copied(deployment), REVISION: str(number), **sizes(deployment, surge)},
            "ownerReferences": [DEPLOYMENT.reference(deployment)],
        },
        "spec": {"replicas": replicas, "minReadySeconds": deployment.spec.min_ready_seconds, "selector": selector, "template": template},
    }
    said = Record(DEPLOYMENTS, deployment.metadata.key, "ScalingReplicaSet", f"Scaled up replica set {name} from 0 to {replicas}")
    why = f"created by deployment {deployment.metadata.name} for its template of now"
    return Create(REPLICA_SETS, whole, why, said if replicas else None)


def annotations_due(deployment: Deployment, new: ReplicaSet, number: int) -> Mapping[str, str]:
    """Return the annotations that the new ReplicaSet lacks: the Deployment's own, and a revision above those of all others."""
    wanted = copied(deployment)
    had = revision(new)
    if had < number:
        wanted[REVISION] = str(number)
        if had:
            before = new.metadata.annotations.get(HISTORY, "")
            wanted[HISTORY] = f"{before},{had}" if before else str(had)
    return {key: value for key, value in wanted.items() if new.metadata.annotations.get(key) != value}
