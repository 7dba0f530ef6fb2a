"""Which nodes a pod's volumes allow, and what is written before such a pod can be bound.

    every claim bound ─► the node must be one that all volumes reach ─► Binding
    a claim of a class that waits for its first pod ─► a node is chosen ─► a volume is reserved, or the node's name is written on the claim
                                                   ─► the claim controller binds the claim ─► the pod is decided again, for the same node ─► Binding

Nothing is remembered between the two decisions: the reserved volume and the node's name on the claim lead the second one to the same node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from labctl.reconcile.plan import Action, Index, Patch, Plan, View
from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.kinds.core_v1.persistentvolume import PersistentVolume
from labctl.resources.kinds.core_v1.persistentvolumeclaim import PersistentVolumeClaim
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.storage_v1.storageclass import NO_PROVISIONER, StorageClass
from labctl.resources.plurals import CLAIMS, PODS, STORAGE_CLASSES, VOLUMES
from labctl.resources.volumes import (
    BOUND_BY_CONTROLLER,
    SELECTED_NODE,
    belongs_to,
    best,
    claim_names,
    claim_of_volume,
    claim_reference,
    claims_of_pod,
    class_of,
    free_in_class,
    is_bound,
    not_its_own,
    reaches,
)

NODE_CONFLICT = "node(s) didn't match PersistentVolume's node affinity"
NOTHING_TO_BIND = "node(s) didn't find available persistent volumes to bind"
UNBOUND = "pod has unbound immediate PersistentVolumeClaims"
ONE_POD_ONLY = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"

INDEXES: dict[tuple[str, str], Index] = {
    (PODS, "claim"): claims_of_pod,
    (VOLUMES, "free"): free_in_class,
    (VOLUMES, "claim"): claim_of_volume,
}


class Waiting(NamedTuple):
    """A claim whose volume is chosen together with the node. `free`: the volumes of which it could have one."""

    claim: PersistentVolumeClaim
    class_: StorageClass
    free: Sequence[PersistentVolume]

    @property
    def selected(self) -> str:
        """Return the node for which its volume is being made."""
        return self.claim.metadata.annotations.get(SELECTED_NODE, "")


class PodVolumes(NamedTuple):
    """What a pod's claims ask of a node. `problem`: why no node will do; `settled`: volumes that are the claims' already."""

    problem: str = ""
    settled: tuple[PersistentVolume, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    unfinished: bool = False  # a volume is reserved for a claim, and the claim does not name it yet

    @property
    def complete(self) -> bool:
        return not self.waiting and not self.unfinished


NO_VOLUMES = PodVolumes()


class WaitsForVolumes(Plan, frozen=True, gc=False):
    """A plan of a pod whose node is chosen and whose volumes are not bound yet. The pod counts on that node meanwhile."""

    node: str = ""


def of_pod(view: View, pod: Pod) -> PodVolumes:
    names = claim_names(pod)
    if not names:
        return NO_VOLUMES
    settled: list[PersistentVolume] = []
    waiting: list[Waiting] = []
    unfinished = False
    for name in dict.fromkeys(names):
        key = f"{pod.metadata.namespace}/{name}"
        claim: PersistentVolumeClaim | None = view.get(CLAIMS, key)
        problem = _problem(view, pod, name, claim)
        if problem or claim is None:
            return PodVolumes(problem)
        volume = _volume_of(view, claim)
        if volume is not None:
            settled.append(volume)
            unfinished = unfinished or not is_bound(claim)
            continue
        class_ = view.get(STORAGE_CLASSES, class_of(claim) or "")
        if class_ is None or not class_.waits or claim.spec.volume_name:
            return PodVolumes(UNBOUND)
        waiting.append(Waiting(claim, class_, view.by(VOLUMES, "free", f"class/{class_.metadata.name}")))
    waiting.sort(key=lambda each: each.claim.metadata.key)
    return PodVolumes("", tuple(settled), tuple(waiting), unfinished)


def _problem(view: View, pod: Pod, name: str, claim: PersistentVolumeClaim | None) -> str:
    """Why a pod with this claim can be placed nowhere now."""
    if claim is None:
        return f'persistentvolumeclaim "{name}" not found'
    if other_owner := not_its_own(pod, claim):
        return other_owner
    if claim.metadata.deletion_timestamp is not None:
        return f'persistentvolumeclaim "{name}" is being deleted'
    if claim.status.phase == "Lost" or (is_bound(claim) and view.get(VOLUMES, claim.spec.volume_name) is None):
        return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{claim.spec.volume_name}"'
    if "ReadWriteOncePod" in claim.spec.access_modes:
        for other in view.by(PODS, "claim", claim.metadata.key):
            if other.metadata.uid != pod.metadata.uid and other.spec.node_name and not other.finished:
                return ONE_POD_ONLY
    return ""


def _volume_of(view: View, claim: PersistentVolumeClaim) -> PersistentVolume | None:
    """Return the volume that the claim has, or that is reserved for it."""
    if is_bound(claim):
        volume: PersistentVolume | None = view.get(VOLUMES, claim.spec.volume_name)
        return volume
    reserved = (each for each in view.by(VOLUMES, "claim", claim.metadata.key) if belongs_to(each, claim))
    return next(reserved, None)


def refusal(volumes: PodVolumes, node: Node) -> str:
    """Why the pod's volumes keep it away from this node; "": they do not."""
    if not all(reaches(volume, node) for volume in volumes.settled):
        return NODE_CONFLICT
    return NOTHING_TO_BIND if volumes.waiting and _matches(volumes, node) is None else ""


def _matches(volumes: PodVolumes, node: Node) -> list[PersistentVolume | None] | None:
    """Return for each waiting claim its volume on this node, or None where a volume must be made.

    None for all if this node can't have the volumes.
    """
    found: list[PersistentVolume | None] = []
    taken: set[str] = set()
    for waiting in volumes.waiting:
        if waiting.selected and waiting.selected != node.metadata.name:
            return None
        there = (each for each in waiting.free if each.metadata.name not in taken and reaches(each, node))
        match = None if waiting.selected else best(there, waiting.claim)
        if match is None and waiting.class_.provisioner == NO_PROVISIONER:
            return None
        if match is not None:
            taken.add(match.metadata.name)
        found.append(match)
    return found


def prepare(volumes: PodVolumes, node: Node, why: str) -> Plan:
    """Return the plan of what is written so that the claims get their volumes on the chosen node."""
    name = node.metadata.name
    return WaitsForVolumes(list(_reservations(volumes, node, why)), why=f"waits for its volumes on {name}", node=name)


def _reservations(volumes: PodVolumes, node: Node, why: str) -> Iterator[Action]:
    for waiting, match in zip(volumes.waiting, _matches(volumes, node) or (), strict=False):
        claim = waiting.claim
        if match is not None:
            patch = {"metadata": {"annotations": {BOUND_BY_CONTROLLER: "yes"}}, "spec": {"claimRef": claim_reference(claim)}}
            told = f"reserved for claim {claim.metadata.key}, whose pod goes to {node.metadata.name}"
            yield Patch(VOLUMES, match.metadata.name, patch, revision=match.metadata.revision, why=told)
        elif not waiting.selected:
            patch = {"metadata": {"annotations": {SELECTED_NODE: node.metadata.name}}}
            told = f"its volume is made on {node.metadata.name}: its pod is {why}"
            yield Patch(CLAIMS, claim.metadata.key, patch, revision=claim.metadata.revision, why=told)
