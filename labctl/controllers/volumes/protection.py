"""A claim that is deleted stays until no pod uses it: its finalizer is taken away then. A bound one says whether any pod wants it, and since when.

For the deletion a pod counts from the moment it has a node until its object is gone, also after it ended: its node may still have the volume mounted.
For the condition `Unused` (KEP-5541) a pod counts from its creation until its end. Only bound claims have it: before, the binding writes the status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random

from labctl.clock import rfc3339
from labctl.controllers.indexes import CLAIMS, PODS
from labctl.reconcile.plan import NOTHING, Index, Key, Patch, Plan, Seen, View
from labctl.resources.conditions import with_condition
from labctl.resources.kinds.core_v1.persistentvolumeclaim import PROTECTION, PersistentVolumeClaim
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.shared import condition
from labctl.resources.volumes import claims_of_pod

UNUSED = "Unused"
_SAID = {
    "True": ("NoPodsUsingPVC", "No pods are currently referencing this PVC"),
    "False": ("PodUsingPVC", "A pod is currently referencing this PVC"),
}


class ClaimProtection:
    name = "pvc-protection-controller"
    kind = CLAIMS

    def __init__(self) -> None:
        self.watches = {CLAIMS: lambda _view, seen: (seen.key,), PODS: _of_pod}
        self.indexes: Mapping[tuple[str, str], Index] = {(PODS, "claim"): claims_of_pod}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        claim: PersistentVolumeClaim | None = view.get(CLAIMS, key)
        if claim is None:
            return NOTHING
        if claim.metadata.deletion_timestamp is None:
            return _told(view, claim) if claim.status.phase == "Bound" else NOTHING
        if PROTECTION not in claim.metadata.finalizers:
            return NOTHING
        users = [pod.metadata.name for pod in view.by(PODS, "claim", key) if pod.spec.node_name]
        if users:
            return Plan(why=f"its deletion waits for pod {users[0]}, which uses it")
        kept = [finalizer for finalizer in claim.metadata.finalizers if finalizer != PROTECTION]
        patch = {"metadata": {"finalizers": kept}}
        return Plan([Patch(CLAIMS, key, patch, revision=claim.metadata.revision, why="no pod uses it any more")])


def _told(view: View, claim: PersistentVolumeClaim) -> Plan:
    """Write the condition Unused if it does not say what is so. A claim whose pods come and go keeps the time of the last change."""
    key = claim.metadata.key
    status = "False" if any(_counts(pod) for pod in view.by(PODS, "claim", key)) else "True"
    before = condition(claim.status.conditions, UNUSED)
    if before is not None and before.status == status:
        return NOTHING
    reason, message = _SAID[status]
    told = {"type": UNUSED, "status": status, "reason": reason, "message": message, "lastTransitionTime": rfc3339(view.wall())}
    stored = ((view.raw(CLAIMS, key) or {}).get("status") or {}).get("conditions") or ()  # a driver's have fields that our view leaves out
    patch = {"status": {"conditions": with_condition(stored, told)}}
    return Plan([Patch(CLAIMS, key, patch, subresource="status", revision=claim.metadata.revision)])


def _counts(pod: Pod) -> bool:
    """Tell whether a pod wants its volumes: not once it has ended, nor when it is deleted and none of its containers runs."""
    if pod.finished:
        return False
    status = pod.status
    containers = (*status.init_container_statuses, *status.container_statuses, *status.ephemeral_container_statuses)
    return pod.metadata.deletion_timestamp is None or any(each.state.running is not None for each in containers)


def _of_pod(_view: View, seen: Seen) -> Iterable[Key]:
    """Return the claims of a pod that came, went, or stopped or began to count."""
    pod = seen.new or seen.old
    if seen.old is not None and seen.new is not None and _counts(seen.old) == _counts(seen.new):
        return ()
    return claims_of_pod(pod)
