"""A claim that is deleted stays until no pod uses it: its finalizer is taken away then.

A pod counts from the moment it has a node until its object is gone, also after it ended: its node may still have the volume mounted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random

from labctl.controllers.indexes import CLAIMS, PODS
from labctl.reconcile.plan import NOTHING, Index, Key, Patch, Plan, Seen, View
from labctl.resources.kinds.core_v1.persistentvolumeclaim import PROTECTION, PersistentVolumeClaim
from labctl.resources.volumes import claims_of_pod


class ClaimProtection:
    name = "pvc-protection-controller"
    kind = CLAIMS

    def __init__(self) -> None:
        self.watches = {CLAIMS: lambda _view, seen: (seen.key,), PODS: _of_pod}
        self.indexes: Mapping[tuple[str, str], Index] = {(PODS, "claim"): claims_of_pod}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        claim: PersistentVolumeClaim | None = view.get(CLAIMS, key)
        if claim is None or claim.metadata.deletion_timestamp is None or PROTECTION not in claim.metadata.finalizers:
            return NOTHING
        users = [pod.metadata.name for pod in view.by(PODS, "claim", key) if pod.spec.node_name]
        if users:
            return Plan(why=f"its deletion waits for pod {users[0]}, which uses it")
        kept = [finalizer for finalizer in claim.metadata.finalizers if finalizer != PROTECTION]
        patch = {"metadata": {"finalizers": kept}}
        return Plan([Patch(CLAIMS, key, patch, revision=claim.metadata.revision, why="no pod uses it any more")])


def _of_pod(_view: View, seen: Seen) -> Iterable[Key]:
    return claims_of_pod(seen.old) if seen.new is None else ()
