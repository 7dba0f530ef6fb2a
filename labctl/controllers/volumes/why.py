"""What `labctl why` says of claims and volumes, and of pods that wait for theirs. Functions of the view, a sentence a line."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.controllers.indexes import CLAIMS, NODES, PODS, STORAGE_CLASSES, VOLUMES
from labctl.reconcile.plan import View
from labctl.resources.kinds.core_v1.persistentvolume import PersistentVolume
from labctl.resources.kinds.core_v1.persistentvolumeclaim import PersistentVolumeClaim
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.volumes import claim_names, class_of


def of_pod(view: View, pod: Pod) -> Iterator[str]:
    """Yield where the data of a waiting pod's claims lies, which is where the pod must go."""
    for name in dict.fromkeys(claim_names(pod)):
        claim: PersistentVolumeClaim | None = view.get(CLAIMS, f"{pod.metadata.namespace}/{name}")
        if claim is None:
            yield f"Its claim {name} does not exist."
        elif not claim.spec.volume_name:
            yield f"Its claim {name} has no volume yet. {_waits(view, claim)}"
        else:
            volume: PersistentVolume | None = view.get(VOLUMES, claim.spec.volume_name)
            if volume is not None and volume.node_name:
                yield f"The data of its claim {name} is on {volume.node_name}: it can run nowhere else.{_node(view, volume.node_name)}"


def claim(view: View, thing: PersistentVolumeClaim) -> Iterator[str]:
    users = [pod.metadata.name for pod in view.by(PODS, "claim", thing.metadata.key) if pod.spec.node_name]
    if thing.metadata.deletion_timestamp is not None:
        yield f"It is leaving, and waits for pod {users[0]}, which uses it." if users else "It is leaving."
    volume: PersistentVolume | None = view.get(VOLUMES, thing.spec.volume_name) if thing.spec.volume_name else None
    if volume is not None:
        where = f", whose data is on {volume.node_name}" if volume.node_name else ""
        yield f"It is {thing.status.phase}. Its volume is {thing.spec.volume_name}{where}."
        if volume.node_name:
            yield from filter(None, [_node(view, volume.node_name).strip()])
    elif thing.spec.volume_name:
        yield f"It is {thing.status.phase}. Its volume {thing.spec.volume_name} does not exist."
    else:
        yield f"It is {thing.status.phase}. {_waits(view, thing)}"
    if users:
        yield f"It is used by {', '.join(users)}."


def volume(view: View, thing: PersistentVolume) -> Iterator[str]:
    reference = thing.spec.claim_ref
    yield f"It is {thing.status.phase}{f', and belongs to claim {reference.key}' if reference else ''}."
    if thing.status.message:
        yield f"{thing.status.message[0].upper()}{thing.status.message[1:]}"
    if thing.node_name:
        yield f"Its data is on {thing.node_name}.{_node(view, thing.node_name)}"
    if thing.metadata.deletion_timestamp is not None:
        waits = ", ".join(thing.metadata.finalizers)
        removal = f" The agent of {thing.node_name} removes the data first." if thing.is_local and thing.node_name else ""
        yield f"It is leaving, and waits for {waits}.{removal}"
    elif thing.status.phase == "Released":
        yield "Its claim is gone; its policy is Retain, so that it keeps the data, and nobody gets it until spec.claimRef is taken away."


def _waits(view: View, claim: PersistentVolumeClaim) -> str:
    """Why a claim has no volume."""
    name = class_of(claim)
    if not name:
        return "It names no class, and no volume without a class suits it."
    class_ = view.get(STORAGE_CLASSES, name)
    if class_ is None:
        return f"Its class {name} does not exist."
    if class_.waits:
        return f"Class {name} gives it one when the first pod that uses it is placed."
    return f"Provisioner {class_.provisioner} of class {name} has made none."


def _node(view: View, name: str) -> str:
    node = view.get(NODES, name)
    if node is None:
        return " That node does not exist."
    return "" if node.ready else " That node is not ready: what uses the data waits until it is back."
