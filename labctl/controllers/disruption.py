"""The disruption controller: how many pods of a PodDisruptionBudget may be evicted now.

    matching pods ─► how many there should be (from their controllers) ─► how many must be healthy, how many are ─► disruptionsAllowed

An eviction takes one of the allowed disruptions (resources/verbs/eviction.py) and writes the pod's name beside it. The name is removed when
the pod is seen to be deleted, or after two minutes. A controller may be of a custom kind, if that has the subresource `scale`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

from labctl.clock import parse_rfc3339, rfc3339
from labctl.controllers.indexes import DEPLOYMENTS, PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS
from labctl.reconcile.plan import NOTHING, Index, Key, Patch, Plan, Seen, View
from labctl.resources.kind import OwnerReference
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.policy_v1.poddisruptionbudget import PodDisruptionBudget
from labctl.resources.kinds.shared import condition
from labctl.resources.registry import Registry
from labctl.resources.shares import share
from labctl.resources.verbs.subresources import scale_object, unscaled

BUDGETS = "poddisruptionbudgets.policy"
DISRUPTED_S = 120.0
_SCALED = {
    ("v1", "ReplicationController"): REPLICATION_CONTROLLERS,
    ("apps/v1", "ReplicaSet"): REPLICA_SETS,
    ("apps/v1", "Deployment"): DEPLOYMENTS,
    ("apps/v1", "StatefulSet"): STATEFUL_SETS,
}


class Disruption:
    """The controller that the module's docstring describes."""

    name = "disruption-controller"
    kind = BUDGETS

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        scaled = dict.fromkeys(_SCALED.values(), _of_owner)
        self.watches = {BUDGETS: lambda _view, seen: (seen.key,), PODS: _of_pod, **scaled}
        self.indexes: Mapping[tuple[str, str], Index] = {}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        budget: PodDisruptionBudget | None = view.get(BUDGETS, key)
        if budget is None or budget.metadata.deletion_timestamp is not None:
            return NOTHING
        pods = [pod for pod in view.all(PODS, budget.metadata.namespace) if budget.pod_selector.matches(pod.metadata.labels)]
        disrupted, again_s = _still_disrupted(budget, pods, view.wall())
        expected, wanted, trouble = _expected(view, self._registry, budget, pods)
        healthy = sum(pod.ready and pod.active and pod.metadata.name not in disrupted for pod in pods)
        allowed = max(0, healthy - wanted) if expected and not trouble else 0
        status = {
            "observedGeneration": budget.metadata.generation,
            "disruptionsAllowed": allowed,
            "currentHealthy": healthy,
            "desiredHealthy": wanted,
            "expectedPods": expected,
        }
        return Plan(list(_report(budget, status, disrupted, trouble, rfc3339(view.wall()))), again_s)


def _still_disrupted(budget: PodDisruptionBudget, pods: Sequence[Pod], wall_s: float) -> tuple[dict[str, str], float | None]:
    """Return the pods whose eviction was allowed but whose deletion is not seen yet, and in how many seconds the first of these entries
    expires.
    """
    staying = {pod.metadata.name for pod in pods if pod.metadata.deletion_timestamp is None}
    left = {name: parse_rfc3339(time) + DISRUPTED_S - wall_s for name, time in budget.status.disrupted_pods.items() if name in staying}
    kept = {name: budget.status.disrupted_pods[name] for name, left_s in left.items() if left_s > 0}
    return kept, min((left_s for left_s in left.values() if left_s > 0), default=None)


def _expected(view: View, registry: Registry, budget: PodDisruptionBudget, pods: Sequence[Pod]) -> tuple[int, int, str]:
    """Return how many pods there should be, how many of them must be healthy, and why that can't be known, if it can't."""
    spec = budget.spec
    if spec.max_unavailable is not None:
        expected, trouble = _scale(view, registry, pods)
        missing = _share(spec.max_unavailable, expected)
        return expected, max(0, expected - missing), trouble
    if isinstance(spec.min_available, int):
        return len(pods), spec.min_available, ""
    if spec.min_available is not None:
        expected, trouble = _scale(view, registry, pods)
        return expected, _share(spec.min_available, expected), trouble
    return len(pods), 0, ""


def _share(value: int | str, of: int) -> int:
    """Return a number, or a percentage, rounded up."""
    return share(value, of)


def _scale(view: View, registry: Registry, pods: Sequence[Pod]) -> tuple[int, str]:
    """Return the sum of what the pods' controllers want."""
    wanted: dict[str, int] = {}
    for pod in pods:
        owner = pod.metadata.controller
        scaled = _scaled_by(view, registry, pod.metadata.namespace, owner)
        if scaled is None:
            what = (
                f"pod {pod.metadata.name} has no controller that can be scaled"
                if owner is None
                else f"{owner.kind} {owner.name} can't be scaled"
            )
            return 0, what
        uid, wanted[uid] = scaled
    return sum(wanted.values()), ""


def _scaled_by(view: View, registry: Registry, namespace: str, owner: OwnerReference | None) -> tuple[str, int] | None:
    """Return the uid of the controller that sets the number, a ReplicaSet's Deployment if it has one, and the number."""
    if owner is None:
        return None
    resource = _SCALED.get((owner.api_version, owner.kind))
    if resource is None:
        return _custom(view, registry, namespace, owner)
    found = view.get(resource, f"{namespace}/{owner.name}")
    if found is None or found.metadata.uid != owner.uid:
        return None
    above = found.metadata.controller
    of_above = _scaled_by(view, registry, namespace, above) if above and (above.api_version, above.kind) in _SCALED else None
    return of_above or (found.metadata.uid, found.spec.replicas)


def _custom(view: View, registry: Registry, namespace: str, owner: OwnerReference) -> tuple[str, int] | None:
    kind = registry.of(owner.api_version, owner.kind)
    found = view.raw(kind.stored.resource, f"{namespace}/{owner.name}") if kind and kind.stored.scale else None
    if kind is None or found is None or found["metadata"]["uid"] != owner.uid or unscaled(kind.stored, found):
        return None
    return owner.uid, scale_object(kind.stored, found)["spec"]["replicas"]


def _report(budget: PodDisruptionBudget, status: dict[str, Any], disrupted: Mapping[str, str], trouble: str, stamp: str) -> Iterator[Patch]:
    if trouble:
        said = ("False", "SyncFailed", trouble)
    elif status["disruptionsAllowed"]:
        said = ("True", "SufficientPods", "")
    else:
        said = ("False", "InsufficientPods", "")
    before = condition(budget.status.conditions, "DisruptionAllowed")
    since = before.last_transition_time if before and before.status == said[0] else stamp
    new = {"type": "DisruptionAllowed", "status": said[0], "reason": said[1], "message": said[2], "lastTransitionTime": since}
    new["observedGeneration"] = budget.metadata.generation
    seen = budget.status
    now = (seen.observed_generation, seen.disruptions_allowed, seen.current_healthy, seen.desired_healthy, seen.expected_pods)
    same = now == tuple(status.values()) and before and (before.status, before.reason, before.message) == said
    if same and dict(seen.disrupted_pods) == dict(disrupted):
        return
    gone = {name: disrupted.get(name) for name in (*seen.disrupted_pods, *disrupted)}
    patch = {"status": {**status, "conditions": [new], "disruptedPods": gone or None}}
    yield Patch(BUDGETS, budget.metadata.key, patch, "status", revision=budget.metadata.revision)


def _of_pod(view: View, seen: Seen) -> Iterator[Key]:
    pods = [pod for pod in (seen.old, seen.new) if pod is not None]
    if len(pods) == 2 and _digest(pods[0]) == _digest(pods[1]):
        return
    for budget in view.all(BUDGETS, pods[0].metadata.namespace):
        if any(budget.pod_selector.matches(pod.metadata.labels) for pod in pods):
            yield budget.metadata.key


def _digest(pod: Pod) -> tuple[Any, ...]:
    return pod.metadata.labels, pod.active, pod.ready, pod.metadata.owner_references


def _of_owner(view: View, seen: Seen) -> Iterator[Key]:
    """Yield the budgets of a controller that wants another number of pods."""
    old, new = seen.old, seen.new
    if old is None or new is None or old.spec.replicas != new.spec.replicas:
        yield from (budget.metadata.key for budget in view.all(BUDGETS, (new or old).metadata.namespace))
