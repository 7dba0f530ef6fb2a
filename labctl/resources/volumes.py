"""Which volume suits a claim, and the names that everybody uses who deals with volumes: the binder, the scheduler, admission, `why`.

Nothing here reads or writes: these are functions of views. The rules are Kubernetes': a volume of the claim's class, in the claim's mode, at least as
big, with every access mode that the claim asks for, with the labels that its selector names; of several the smallest, and of those the first by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from labctl.resources.kind import newest
from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.kinds.core_v1.persistentvolume import PersistentVolume
from labctl.resources.kinds.core_v1.persistentvolumeclaim import PersistentVolumeClaim
from labctl.resources.kinds.core_v1.pod_view import Pod, Volume
from labctl.resources.kinds.storage_v1.storageclass import StorageClass
from labctl.resources.placement import in_terms
from labctl.resources.quantities import parse
from labctl.resources.selectors import from_object

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
STORAGE_PROVISIONER = ("volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner")
BETA_CLASS = "volume.beta.kubernetes.io/storage-class"

Index = Callable[[Any], Iterable[str]]


def class_of(claim: PersistentVolumeClaim) -> str | None:
    """Return the name of its class; "" for no class; None if nobody has chosen yet, and the default class will be filled in."""
    return claim.metadata.annotations.get(BETA_CLASS, claim.spec.storage_class_name)


def default_class(classes: Iterable[StorageClass]) -> StorageClass | None:
    """Return the default class."""
    return newest(each for each in classes if each.is_default)


def is_bound(claim: PersistentVolumeClaim) -> bool:
    """Tell whether the claim has its volume, which it keeps."""
    return bool(claim.spec.volume_name) and BIND_COMPLETED in claim.metadata.annotations


def belongs_to(volume: PersistentVolume, claim: PersistentVolumeClaim) -> bool:
    """Tell whether the volume names this claim: by its uid, or, if a person reserved it, by its name alone."""
    reference = volume.spec.claim_ref
    return reference is not None and reference.key == claim.metadata.key and reference.uid in ("", claim.metadata.uid)


def reaches(volume: PersistentVolume, node: Node) -> bool:
    """Tell whether the volume can be mounted on this node."""
    required = volume.spec.node_affinity.required
    return required is None or in_terms(required.node_selector_terms, node)


def unsuitable(volume: PersistentVolume, claim: PersistentVolumeClaim) -> str:
    """Why the volume does not have what the claim asks for, in Kubernetes' words; "": it has."""
    if parse(volume.spec.capacity.get("storage", 0)) < parse(claim.spec.resources.requests.get("storage", 0)):
        return "requested PV is too small"
    if volume.spec.storage_class_name != (class_of(claim) or ""):
        return "storageClassName does not match"
    if volume.spec.volume_mode != claim.spec.volume_mode:
        return "incompatible volumeMode"
    if not set(claim.spec.access_modes) <= set(volume.spec.access_modes):
        return "incompatible accessMode"
    return ""


def best(volumes: Iterable[PersistentVolume], claim: PersistentVolumeClaim) -> PersistentVolume | None:
    """Return the smallest of the free volumes that suit the claim."""
    suiting = (
        volume
        for volume in volumes
        if volume.spec.claim_ref is None
        and volume.metadata.deletion_timestamp is None
        and not unsuitable(volume, claim)
        and _selected(claim, volume.metadata.labels)
    )
    return min(suiting, key=lambda volume: (parse(volume.spec.capacity.get("storage", 0)), volume.metadata.name), default=None)


def _selected(claim: PersistentVolumeClaim, labels: Mapping[str, str]) -> bool:
    selector = msgspec.json.decode(claim.spec.selector)
    try:
        return selector is None or from_object(selector).matches(labels)
    except ValueError:
        return False


def claim_reference(claim: PersistentVolumeClaim) -> dict[str, str]:
    """Return a volume's spec.claimRef for the claim that has it."""
    metadata = claim.metadata
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": metadata.namespace,
        "name": metadata.name,
        "uid": metadata.uid,
        "resourceVersion": metadata.resource_version,
    }


def claim_names(pod: Pod) -> list[str]:
    """Return the names of the claims that a pod uses, in the order of its volumes."""
    return [name for volume in pod.spec.volumes if (name := _claim_name(pod, volume))]


def ephemeral_claim(pod: Pod, volume: Volume) -> str:
    """Return the name of the claim that is made for a volume of this pod alone."""
    return f"{pod.metadata.name}-{volume.name}"


def not_its_own(pod: Pod, claim: PersistentVolumeClaim) -> str:
    """Return what is wrong if an ephemeral volume finds another owner's claim under its name, or "" if nothing is."""
    ephemeral = {ephemeral_claim(pod, volume) for volume in pod.spec.volumes if volume.ephemeral is not None}
    owner = claim.metadata.controller
    if claim.metadata.name not in ephemeral or (owner is not None and owner.uid == pod.metadata.uid):
        return ""
    return f"PVC {claim.metadata.key} was not created for pod {pod.metadata.key} (pod is not owner)"


def _claim_name(pod: Pod, volume: Volume) -> str:
    if volume.persistent_volume_claim is not None:
        return volume.persistent_volume_claim.claim_name
    return ephemeral_claim(pod, volume) if volume.ephemeral is not None else ""


# -- indexes: the same functions for all who declare them ---------------------------------------------------------------------------------


def claims_of_pod(pod: Pod) -> Iterable[str]:
    """Return, for the index (PODS, "claim"), the keys of its claims."""
    return [f"{pod.metadata.namespace}/{name}" for name in claim_names(pod)]


def free_in_class(volume: PersistentVolume) -> Iterable[str]:
    """Return, for the index (VOLUMES, "free"), the class of a free volume. An index holds no empty text, so the name has a prefix."""
    return (f"class/{volume.spec.storage_class_name}",) if volume.spec.claim_ref is None else ()


def claim_of_volume(volume: PersistentVolume) -> Iterable[str]:
    """Return, for the index (VOLUMES, "claim"), the key of the claim that it names."""
    return (volume.spec.claim_ref.key,) if volume.spec.claim_ref is not None else ()
