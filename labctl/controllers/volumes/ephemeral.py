"""The controller of ephemeral volumes makes the claim that a pod's spec holds as a template, and the pod owns it: the claim goes when the pod goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from random import Random
from typing import Any

import msgspec

from labctl.controllers.indexes import CLAIMS, PODS
from labctl.reconcile.plan import NOTHING, Action, Create, Index, Key, Plan, Seen, View
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.volumes import claims_of_pod, ephemeral_claim


class EphemeralVolumes:
    name = "ephemeral-volume-controller"
    kind = PODS

    def __init__(self) -> None:
        self.watches = {PODS: _of_pod, CLAIMS: _of_claim}
        self.indexes: Mapping[tuple[str, str], Index] = {(PODS, "claim"): claims_of_pod}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        pod: Pod | None = view.get(PODS, key)
        return NOTHING if pod is None or not pod.active else Plan(list(_missing(view, pod)))


def _of_pod(_view: View, seen: Seen) -> Iterable[Key]:
    return (seen.key,) if seen.old is None and any(volume.ephemeral for volume in seen.new.spec.volumes) else ()


def _of_claim(view: View, seen: Seen) -> Iterable[Key]:
    """Return the pods for whose own claims a deleted claim may have blocked the name."""
    return [pod.metadata.key for pod in view.by(PODS, "claim", seen.key)] if seen.new is None else ()


def _missing(view: View, pod: Pod) -> Iterator[Action]:
    for volume in pod.spec.volumes:
        if volume.ephemeral is None:
            continue
        name = ephemeral_claim(pod, volume)
        if view.get(CLAIMS, f"{pod.metadata.namespace}/{name}") is None:
            yield Create(
                CLAIMS, _claim(pod, name, msgspec.json.decode(volume.ephemeral.volume_claim_template)), f"made for pod {pod.metadata.name}"
            )


def _claim(pod: Pod, name: str, template: dict[str, Any] | None) -> dict[str, Any]:
    given = (template or {}).get("metadata") or {}
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid}
    metadata = {field: given[field] for field in ("labels", "annotations") if given.get(field)}
    metadata |= {"name": name, "namespace": pod.metadata.namespace}
    metadata["ownerReferences"] = [{**owner, "controller": True, "blockOwnerDeletion": True}]
    return {"metadata": metadata, "spec": (template or {}).get("spec") or {}}
