"""The identity of a pod of a StatefulSet: its number, its name, its host name and its claims. All functions are pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from labctl.controllers.indexes import PODS, STATEFUL_SETS
from labctl.controllers.shared import pods
from labctl.controllers.shared.ownership import OwnerKind, plain_reference
from labctl.controllers.shared.revisions import REVISION_LABEL
from labctl.resources.kind import OwnerReference
from labctl.resources.kinds.apps_v1.statefulset import StatefulSet
from labctl.resources.kinds.core_v1.pod_view import Pod

STATEFUL_SET = OwnerKind(STATEFUL_SETS, "apps/v1", "StatefulSet")
POD = OwnerKind(PODS, "v1", "Pod")
POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"

Object = dict[str, Any]


def ordinal(stateful: StatefulSet, pod: Pod) -> int | None:
    """Return the number in a pod's name, or None if the name does not belong to this set."""
    prefix, _, number = pod.metadata.name.rpartition("-")
    return int(number) if prefix == stateful.metadata.name and number.isascii() and number.isdigit() else None


def pod_name(stateful: StatefulSet, number: int) -> str:
    return f"{stateful.metadata.name}-{number}"


def pod_of(stateful: StatefulSet, number: int, template: bytes, revision: str) -> Object:
    """Return the pod with this number, from the template of a revision."""
    name = pod_name(stateful, number)
    whole = pods.from_template(STATEFUL_SET, stateful, name, msgspec.json.decode(template))
    metadata, spec = whole["metadata"], whole["spec"]
    metadata["labels"] = {**metadata.get("labels", {}), POD_NAME: name, POD_INDEX: str(number), REVISION_LABEL: revision}
    spec["hostname"] = name
    if stateful.spec.service_name:
        spec["subdomain"] = stateful.spec.service_name
    claimed = {_given(template).get("name", ""): claim_name(template, name) for template in claim_templates(stateful)}
    kept = [volume for volume in spec.get("volumes") or () if volume.get("name") not in claimed]
    mounted = [{"name": volume, "persistentVolumeClaim": {"claimName": claim}} for volume, claim in claimed.items()]
    if kept or mounted:
        spec["volumes"] = [*mounted, *kept]
    return whole


def claim_templates(stateful: StatefulSet) -> list[Object]:
    templates: list[Object] = msgspec.json.decode(stateful.spec.volume_claim_templates)
    return templates or []


def claim_name(template: Mapping[str, Any], pod: str) -> str:
    return f"{_given(template).get('name', '')}-{pod}"


def _given(template: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a claim's metadata as its template has it. Kubernetes takes one without a name, of which no claim can be made."""
    return template.get("metadata") or {}


def claims_of(stateful: StatefulSet, pod: str) -> Iterator[Object]:
    """Yield the claims that the pod of this name mounts, ready to be created: with the set's selector labels, and owned by the set if its
    policy says so.
    """
    labels = msgspec.json.decode(stateful.spec.selector).get("matchLabels") or {}
    owned = stateful.spec.persistent_volume_claim_retention_policy.when_deleted == "Delete"
    for template in claim_templates(stateful):
        given = _given(template)
        metadata = {
            "name": claim_name(template, pod),
            "namespace": stateful.metadata.namespace,
            "labels": {**(given.get("labels") or {}), **labels},
            "annotations": dict(given.get("annotations") or {}),
        }
        if owned:
            metadata["ownerReferences"] = [STATEFUL_SET.reference(stateful)]
        yield {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template.get("spec") or {}}


def owners_of_claim(stateful: StatefulSet, pod: Pod, claim: Any, *, scaled_away: bool) -> list[Object] | None:
    """Return the owners that a claim of this pod should have, or None if they are as the set's retention policy says (KEP-1847).

    The set owns it, or the pod once that is scaled away, or neither of them. A claim that belongs to an earlier set or pod of the same name is left
    to the garbage collector, and one that somebody else controls gets no owner.
    """
    policy = stateful.spec.persistent_volume_claim_retention_policy
    given = claim.metadata.owner_references
    of_set, of_pod = STATEFUL_SET.reference(stateful), POD.reference(pod)
    if any(_is_namesake(each, wanted) for each in given for wanted in (of_set, of_pod)):
        return None
    ours = {of_set["uid"], of_pod["uid"]}
    wanted: list[Object] = []
    if not any(each.controller for each in given if each.uid not in ours):
        if scaled_away and policy.when_scaled == "Delete":
            wanted = [of_pod]
        elif policy.when_deleted == "Delete":
            wanted = [of_set]
    if [plain_reference(each) for each in given if each.uid in ours] == wanted:
        return None
    return [*(plain_reference(each) for each in given if each.uid not in ours), *wanted]


def _is_namesake(given: OwnerReference, wanted: Object) -> bool:
    return (given.kind, given.name) == (wanted["kind"], wanted["name"]) and given.uid != wanted["uid"]
