"""The volume controller says in which phase each volume is, and what becomes of one whose claim is gone.

    Available ─► Bound ─► Released ─► its policy: Retain: it stays; Delete: its object is deleted, and whoever made it removes the data
                                  └─► Failed: nobody can do what the policy says

A volume that is deleted stays while it is bound, and one of the built-in provisioner until its node's agent has removed the data. If that node is gone
for good (neither a Node nor a Machine has its name), its disk is gone too, and nobody is waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from random import Random

from labctl.clock import rfc3339
from labctl.controllers.indexes import CLAIMS, MACHINES, NODES, VOLUMES
from labctl.reconcile.plan import NOTHING, Action, Delete, Index, Key, Patch, Plan, Record, Seen, View
from labctl.resources.kinds.core_v1.persistentvolume import LOCAL_DATA, LOCAL_PROVISIONER, PROTECTION, PROVISIONED_BY, PersistentVolume
from labctl.resources.kinds.core_v1.persistentvolumeclaim import PersistentVolumeClaim
from labctl.resources.volumes import BOUND_BY_CONTROLLER, claim_of_volume


def _on_node(volume: PersistentVolume) -> Iterable[str]:
    """Return, for the index (VOLUMES, "node"), the node on whose disk it lies."""
    return (volume.node_name,) if volume.is_local and volume.node_name else ()


class PersistentVolumes:
    name = "pv-protection-controller"
    kind = VOLUMES

    def __init__(self) -> None:
        self.watches = {VOLUMES: lambda _view, seen: (seen.key,), CLAIMS: _of_claim, NODES: _of_machine, MACHINES: _of_machine}
        self.indexes: Mapping[tuple[str, str], Index] = {(VOLUMES, "claim"): claim_of_volume, (VOLUMES, "node"): _on_node}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        volume: PersistentVolume | None = view.get(VOLUMES, key)
        if volume is None:
            return NOTHING
        claim = _claim_of(view, volume)
        if claim is not None and claim.spec.volume_name not in ("", key):
            return Plan([_let_go(volume)])
        phase, message = _phase(volume, claim)
        if phase != volume.status.phase:
            return Plan(list(_told(view, volume, phase, message)))
        if volume.metadata.deletion_timestamp is not None:
            return Plan(list(_released(view, volume)))
        if phase == "Released" and _ours_to_delete(volume):
            why = f"its claim is gone, and its policy is {volume.spec.persistent_volume_reclaim_policy}"
            return Plan([Delete(VOLUMES, key, volume.metadata.uid, why=why)])
        return NOTHING


def _of_claim(view: View, seen: Seen) -> Iterable[Key]:
    for claim in (seen.old, seen.new):
        if claim is not None and claim.spec.volume_name:
            yield claim.spec.volume_name
    for volume in view.by(VOLUMES, "claim", seen.key):
        yield volume.metadata.name


def _of_machine(view: View, seen: Seen) -> Iterable[Key]:
    return [volume.metadata.name for volume in view.by(VOLUMES, "node", seen.key)] if seen.new is None else ()


def _claim_of(view: View, volume: PersistentVolume) -> PersistentVolumeClaim | None:
    """Return the claim that the volume names, if it is still that one and not another of its name."""
    reference = volume.spec.claim_ref
    claim: PersistentVolumeClaim | None = view.get(CLAIMS, reference.key) if reference is not None and reference.uid else None
    return claim if claim is not None and reference is not None and claim.metadata.uid == reference.uid else None


def _ours_to_delete(volume: PersistentVolume) -> bool:
    return volume.is_local and volume.spec.persistent_volume_reclaim_policy == "Delete"


def _phase(volume: PersistentVolume, claim: PersistentVolumeClaim | None) -> tuple[str, str]:
    """Return the volume's phase, and a message where one is needed."""
    reference, policy = volume.spec.claim_ref, volume.spec.persistent_volume_reclaim_policy
    if reference is None or not reference.uid:
        return "Available", ""
    if claim is not None:
        return "Bound", ""
    made_by = volume.metadata.annotations.get(PROVISIONED_BY, "")
    if policy == "Delete" and not made_by:
        why = "no deletable volume plugin matched"
        return "Failed", f'error getting deleter volume plugin for volume "{volume.metadata.name}": {why}'
    if policy == "Recycle":
        return "Failed", "No recycler plugin found for the volume!"
    return "Released", ""


def _told(view: View, volume: PersistentVolume, phase: str, message: str) -> Iterator[Action]:
    status = {"phase": phase, "message": message or None, "lastPhaseTransitionTime": rfc3339(view.wall())}
    event = None
    if phase == "Failed":
        reason = f"VolumeFailed{volume.spec.persistent_volume_reclaim_policy}"
        event = Record(VOLUMES, volume.metadata.name, reason, message, "Warning")
    yield Patch(VOLUMES, volume.metadata.name, {"status": status}, "status", why=f"is {phase}", event=event)


def _let_go(volume: PersistentVolume) -> Action:
    """Free a volume whose claim has another one; delete it if it was made for that claim alone."""
    name, reference = volume.metadata.name, volume.spec.claim_ref
    assert reference is not None
    if _ours_to_delete(volume):
        return Delete(VOLUMES, name, volume.metadata.uid, why=f"its claim {reference.key} has another volume")
    chosen = BOUND_BY_CONTROLLER in volume.metadata.annotations
    patch = {"spec": {"claimRef": None if chosen else {"uid": None, "resourceVersion": None}}}
    return Patch(VOLUMES, name, patch, revision=volume.metadata.revision, why=f"its claim {reference.key} has another volume")


def _released(view: View, volume: PersistentVolume) -> Iterator[Action]:
    """Takes away the finalizers that hold nothing any more."""
    finalizers = [each for each in volume.metadata.finalizers if not (each == PROTECTION and volume.status.phase != "Bound")]
    why = "no longer bound"
    if finalizers == [LOCAL_DATA] and _disk_is_gone(view, volume):
        finalizers, why = [], f"removed with its node {volume.node_name or 'that it never had'}"
    if len(finalizers) != len(volume.metadata.finalizers):
        patch = {"metadata": {"finalizers": finalizers}}
        yield Patch(VOLUMES, volume.metadata.name, patch, revision=volume.metadata.revision, why=why)


def _disk_is_gone(view: View, volume: PersistentVolume) -> bool:
    """Tell whether no agent will ever remove the data: the node does not exist, or the built-in provisioner did not make the volume."""
    if volume.metadata.annotations.get(PROVISIONED_BY) != LOCAL_PROVISIONER or not volume.node_name:
        return True
    return view.get(NODES, volume.node_name) is None and view.get(MACHINES, volume.node_name) is None
