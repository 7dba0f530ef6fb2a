"""The ReplicaSets of a Deployment: which is the new one, how old ones are ordered, and what is written on each.

A Deployment's template names its ReplicaSet by a hash; the ReplicaSet's pods carry it in the label `pod-template-hash`, so that pods of two templates are
never mixed. The revision, the wanted size and the most pods at once stand in annotations, as Kubernetes has them: `kubectl rollout` reads them there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from labctl.controllers.indexes import DEPLOYMENTS, REPLICA_SETS
from labctl.controllers.shared.ownership import OwnerKind
from labctl.reconcile.plan import Create, Record
from labctl.resources.kinds.apps_v1.deployment import Deployment
from labctl.resources.kinds.apps_v1.replicaset import ReplicaSet

DEPLOYMENT = OwnerKind(DEPLOYMENTS, "apps/v1", "Deployment")
HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAX = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = frozenset(
    {"kubectl.kubernetes.io/last-applied-configuration", REVISION, HISTORY, DESIRED, MAX, "deprecated.deployment.rollback.to"}
)
_HASH_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # no vowels, so that chance spells no words
_HASH_LENGTH = 10


def template_hash(template: bytes, collisions: int) -> str:
    """The word that names a template's ReplicaSet. `collisions` counts the names that another template had already."""
    plain = _canonical(msgspec.json.decode(template))
    number = int.from_bytes(hashlib.blake2b(plain + b"%d" % collisions if collisions else plain, digest_size=16).digest(), "big")
    word = ""
    for _ in range(_HASH_LENGTH):
        number, letter = divmod(number, len(_HASH_ALPHABET))
        word += _HASH_ALPHABET[letter]
    return word


def _canonical(template: dict[str, Any]) -> bytes:
    """The template without the hash label, in one order: equal templates are equal bytes."""
    metadata = dict(template.get("metadata") or {})
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH_LABEL}
    metadata["labels"] = labels
    return msgspec.json.encode({"metadata": metadata, "spec": template.get("spec") or {}}, order="sorted")


def same_template(one: bytes, other: bytes) -> bool:
    return one == other or _canonical(msgspec.json.decode(one)) == _canonical(msgspec.json.decode(other))


def oldest_first(sets: Sequence[ReplicaSet]) -> list[ReplicaSet]:
    return sorted(sets, key=lambda each: (each.metadata.creation_timestamp or "", each.metadata.name))


def find_new(deployment: Deployment, sets: Sequence[ReplicaSet]) -> ReplicaSet | None:
    """The oldest ReplicaSet that has the Deployment's template, if any."""
    return next((each for each in oldest_first(sets) if same_template(each.spec.template, deployment.spec.template)), None)


def revision(of: Any) -> int:
    """The revision that a Deployment or ReplicaSet carries; 0 if it has none that can be read."""
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
    """The annotations that say how many pods are wanted, and how many there may be while rolling."""
    wanted = deployment.spec.replicas
    return {DESIRED: str(wanted), MAX: str(wanted + surge)}


def copied(deployment: Deployment) -> dict[str, str]:
    """The Deployment's annotations that its new ReplicaSet carries as well."""
    return {key: value for key, value in deployment.metadata.annotations.items() if key not in _NOT_COPIED}


def new_set(deployment: Deployment, name: str, word: str, replicas: int, number: int, surge: int) -> Create:
    """The ReplicaSet of the Deployment's template. `number` is its revision."""
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
    """What the new ReplicaSet's annotations lack: the Deployment's own, and a revision above those of all others."""
    wanted = copied(deployment)
    had = revision(new)
    if had < number:
        wanted[REVISION] = str(number)
        if had:
            before = new.metadata.annotations.get(HISTORY, "")
            wanted[HISTORY] = f"{before},{had}" if before else str(had)
    return {key: value for key, value in wanted.items() if new.metadata.annotations.get(key) != value}
