"""The claim controller gives each claim a volume: one that is there and suits it, or a new one.

    no volume ─► reserved for it already? ─► class waits for a pod? ─► the smallest that suits ─► a provisioner makes one ─► bound, for life

One plan does one step, because the actions of a plan are carried out side by side: first the volume names the claim, at the revision at which it
was seen to be free, so that two claims never get one volume; then the claim names the volume. The scheduler does the first step where a class waits
for the first pod: it reserves a volume that the pod's node reaches, or writes the node's name on the claim (scheduler/volumes.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from random import Random

from labctl.controllers.indexes import CLAIMS, NODES, NODES_READY, READY, STORAGE_CLASSES, VOLUMES
from labctl.controllers.volumes import provision
from labctl.reconcile.plan import NOTHING, Action, Index, Key, Patch, Plan, Record, Seen, View
from labctl.resources.kinds.core_v1.persistentvolume import LOCAL_PROVISIONER, PersistentVolume
from labctl.resources.kinds.core_v1.persistentvolumeclaim import PersistentVolumeClaim
from labctl.resources.kinds.storage_v1.storageclass import NO_PROVISIONER, StorageClass
from labctl.resources.volumes import (
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    SELECTED_NODE,
    STORAGE_PROVISIONER,
    belongs_to,
    best,
    claim_of_volume,
    claim_reference,
    class_of,
    default_class,
    free_in_class,
    is_bound,
    unsuitable,
)

NO_VOLUME = "no persistent volumes available for this claim and no storage class is set"
WAITS_FOR_POD = "waiting for first consumer to be created before binding"
LOST = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
MISBOUND = "Two claims are bound to the same volume, this one is bound incorrectly"
AGAIN_S = 5.0


def _waiting(claim: PersistentVolumeClaim) -> Iterable[str]:
    """Return the key of the index (CLAIMS, "waiting") for a claim that has no volume yet."""
    return () if is_bound(claim) else ("waiting",)


class Claims:
    name = "persistentvolume-controller"
    kind = CLAIMS

    def __init__(self) -> None:
        self.watches = {CLAIMS: lambda _view, seen: (seen.key,), VOLUMES: _of_volume, STORAGE_CLASSES: _of_class}
        self.indexes: Mapping[tuple[str, str], Index] = {
            (CLAIMS, "waiting"): _waiting,
            (VOLUMES, "free"): free_in_class,
            (VOLUMES, "claim"): claim_of_volume,
            **NODES_READY,
        }

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        claim: PersistentVolumeClaim | None = view.get(CLAIMS, key)
        if claim is None:
            return NOTHING
        if BIND_COMPLETED in claim.metadata.annotations:
            return Plan(list(_keep(view, claim)))
        if claim.metadata.deletion_timestamp is not None:
            return NOTHING
        if claim.spec.volume_name:
            return Plan(list(_take_named(view, claim)))
        return _find(view, claim, rng)


def _of_volume(view: View, seen: Seen) -> Iterable[Key]:
    """Return the claims that a volume names or named, and, if it is free, those that wait for one."""
    for volume in (seen.old, seen.new):
        if volume is not None and volume.spec.claim_ref is not None:
            yield volume.spec.claim_ref.key
    if seen.new is None or seen.new.spec.claim_ref is None:
        for claim in view.by(CLAIMS, "waiting", "waiting"):
            if claim.spec.volume_name in ("", seen.key):
                yield claim.metadata.key


def _of_class(view: View, seen: Seen) -> Iterable[Key]:
    for claim in view.by(CLAIMS, "waiting", "waiting"):
        if class_of(claim) in (None, seen.key):
            yield claim.metadata.key


# -- a claim that has its volume ---------------------------------------------------------------------------------------------------------


def _keep(view: View, claim: PersistentVolumeClaim) -> Iterator[Action]:
    """Keep a bound claim bound. If its volume is gone, it is lost for good."""
    volume: PersistentVolume | None = view.get(VOLUMES, claim.spec.volume_name) if claim.spec.volume_name else None
    if volume is None:
        yield from _lost(claim, "ClaimLost", LOST)
    elif volume.spec.claim_ref is None:
        yield _reserve(claim, volume)
    elif belongs_to(volume, claim):
        yield from _bound_status(claim, volume)
    else:
        yield from _lost(claim, "ClaimMisbound", MISBOUND)


def _lost(claim: PersistentVolumeClaim, reason: str, message: str) -> Iterator[Action]:
    if claim.status.phase == "Lost":
        return
    event = Record(CLAIMS, claim.metadata.key, reason, message, "Warning")
    status = {"phase": "Lost", "accessModes": None, "capacity": None}
    yield Patch(CLAIMS, claim.metadata.key, {"status": status}, "status", why=message, event=event)


def _bound_status(claim: PersistentVolumeClaim, volume: PersistentVolume) -> Iterator[Action]:
    modes, capacity = volume.spec.access_modes, volume.spec.capacity
    if (claim.status.phase, claim.status.access_modes, claim.status.capacity) != ("Bound", modes, capacity):
        status = {"phase": "Bound", "accessModes": list(modes), "capacity": dict(capacity)}
        yield Patch(CLAIMS, claim.metadata.key, {"status": status}, "status")


# -- a claim that has none ---------------------------------------------------------------------------------------------------------------


def _take_named(view: View, claim: PersistentVolumeClaim) -> Iterator[Action]:
    """Bind the volume that the claim's author named, and no other."""
    volume: PersistentVolume | None = view.get(VOLUMES, claim.spec.volume_name)
    if volume is None:
        return
    if volume.spec.claim_ref is None:
        why = unsuitable(volume, claim)
        if why:
            message = f'Cannot bind to requested volume "{volume.metadata.name}": {why}'
            yield Record(CLAIMS, claim.metadata.key, "VolumeMismatch", message, "Warning")
        else:
            yield _reserve(claim, volume)
    elif belongs_to(volume, claim):
        yield from _bind(claim, volume)


def _find(view: View, claim: PersistentVolumeClaim, rng: Random) -> Plan:
    key = claim.metadata.key
    reserved = next((v for v in view.by(VOLUMES, "claim", key) if belongs_to(v, claim) and v.metadata.deletion_timestamp is None), None)
    if reserved is not None:
        why = unsuitable(reserved, claim)
        if not why:
            return Plan(list(_bind(claim, reserved)))
        message = f'Cannot bind to requested volume "{reserved.metadata.name}": {why}'
        return Plan([Record(CLAIMS, key, "VolumeMismatch", message, "Warning")])
    name = class_of(claim)
    if name is None:
        default = default_class(view.all(STORAGE_CLASSES))
        if default is not None:
            why = "is given the default class, which came after it"
            return Plan([Patch(CLAIMS, key, {"spec": {"storageClassName": default.metadata.name}}, why=why)])
    class_: StorageClass | None = view.get(STORAGE_CLASSES, name) if name else None
    selected = claim.metadata.annotations.get(SELECTED_NODE, "")
    if class_ is not None and class_.waits:
        if not selected:
            return Plan([Record(CLAIMS, key, "WaitForFirstConsumer", WAITS_FOR_POD)])
    else:
        volume = best(view.by(VOLUMES, "free", f"class/{name or ''}"), claim)
        if volume is not None:
            return Plan([_reserve(claim, volume)])
    if not name:
        return Plan([Record(CLAIMS, key, "FailedBinding", NO_VOLUME)])
    if class_ is None:
        return Plan([Record(CLAIMS, key, "ProvisioningFailed", f'storageclass.storage.k8s.io "{name}" not found', "Warning")])
    return _provision(view, claim, class_, selected, rng)


def _provision(view: View, claim: PersistentVolumeClaim, class_: StorageClass, selected: str, rng: Random) -> Plan:
    key = claim.metadata.key
    if class_.provisioner == NO_PROVISIONER:
        message = f"no volume plugin matched name: {NO_PROVISIONER}"
        return Plan([Record(CLAIMS, key, "ProvisioningFailed", message, "Warning")])
    if class_.provisioner != LOCAL_PROVISIONER:
        message = (
            f"Waiting for a volume to be created either by the external provisioner '{class_.provisioner}' or manually by the system administrator. "
            "If volume creation is delayed, please verify that the provisioner is running and correctly registered."
        )
        return Plan([*_told(claim, class_), Record(CLAIMS, key, "ExternalProvisioning", message)])
    why = provision.refusal(claim)
    if not why and selected and view.get(NODES, selected) is None:
        forget = Patch(CLAIMS, key, {"metadata": {"annotations": {SELECTED_NODE: None}}}, why=f"node {selected} is gone: another is chosen")
        return Plan([forget])
    ready = [node.metadata.name for node in view.by(NODES, "ready", READY) if not node.spec.unschedulable]
    if not why and not selected and not ready:
        why = "no node is ready"
    if why:
        message = f'failed to provision volume with StorageClass "{class_.metadata.name}": {why}'
        return Plan([Record(CLAIMS, key, "ProvisioningFailed", message, "Warning")], AGAIN_S if not ready else None)
    return Plan([*_told(claim, class_), provision.volume(claim, class_, selected or rng.choice(ready))])


def _told(claim: PersistentVolumeClaim, class_: StorageClass) -> Iterator[Action]:
    """Write into the claim who makes its volume, because external provisioners wait for that."""
    if any(claim.metadata.annotations.get(name) != class_.provisioner for name in STORAGE_PROVISIONER):
        yield Patch(CLAIMS, claim.metadata.key, {"metadata": {"annotations": dict.fromkeys(STORAGE_PROVISIONER, class_.provisioner)}})


def _reserve(claim: PersistentVolumeClaim, volume: PersistentVolume) -> Action:
    """Write the claim into the volume, if the volume is still as it was seen."""
    patch = {"metadata": {"annotations": {BOUND_BY_CONTROLLER: "yes"}}, "spec": {"claimRef": claim_reference(claim)}}
    why = f"bound to claim {claim.metadata.key}, which it suits"
    return Patch(VOLUMES, volume.metadata.name, patch, revision=volume.metadata.revision, why=why)


def _bind(claim: PersistentVolumeClaim, volume: PersistentVolume) -> Iterator[Action]:
    """Write into the claim the volume that names it."""
    reference = volume.spec.claim_ref
    assert reference is not None
    if not reference.uid:  # reserved by hand, by name alone
        patch = {"spec": {"claimRef": claim_reference(claim)}}
        yield Patch(VOLUMES, volume.metadata.name, patch, revision=volume.metadata.revision, why=f"bound to claim {claim.metadata.key}")
        return
    annotations = {BIND_COMPLETED: "yes", **({} if claim.spec.volume_name else {BOUND_BY_CONTROLLER: "yes"})}
    body = {"metadata": {"annotations": annotations}, "spec": {"volumeName": volume.metadata.name}}
    yield Patch(CLAIMS, claim.metadata.key, body, why=f"bound to volume {volume.metadata.name}")
    yield from _bound_status(claim, volume)
