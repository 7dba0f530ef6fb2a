"""Keeps as many pods as an owner wants, made from its template: what a ReplicationController and a ReplicaSet have in common.

The controller adopts matching pods without a controller, releases those that no longer match, makes missing ones (slowly at first: as many
as
exist already, so that a template that can't be created costs little) and deletes the surplus in Kubernetes' order, the least useful first.
A pod counts while it is active: neither finished nor being deleted. The controller starts no pod and knows no node's health: a dead pod
stops being active.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

from labctl.controllers.backends import COUNTED_BETWEEN_S, pause_s
from labctl.controllers.conditions import plain, with_condition
from labctl.controllers.indexes import PODS, PODS_READY
from labctl.controllers.settings import ControllerSettings
from labctl.controllers.shared import pods
from labctl.controllers.shared.ownership import OwnerKind, claim, concerned, owned, owners
from labctl.reconcile.plan import NOTHING, Action, Create, Index, Key, Patch, Plan, Refusal, Seen, View
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.shared import condition

FAILURE = "ReplicaFailure"
"""The condition that says that a pod could not be made, for example because a quota is used up."""


class Replicas:
    """The base of the controllers of one kind of owner, `of`.

    An owner has spec.replicas, minReadySeconds, template, pod_selector and a status with counts.
    """

    name: str
    of: OwnerKind

    def __init__(self, settings: ControllerSettings = ControllerSettings()) -> None:  # noqa: B008 - frozen
        self._settings = settings
        self.kind = self.of.resource
        self.watches = {self.of.resource: lambda _view, seen: (seen.key,), PODS: self._concerned}
        self.indexes: Mapping[tuple[str, str], Index] = {**owned(PODS), **PODS_READY, **owners(self.of.resource)}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        owner = view.get(self.kind, key)
        if owner is None:
            return NOTHING
        if (wait_s := self._pause_s(view, owner, now)) > 0:
            return Plan(again_s=wait_s)
        mine, claims = claim(view, self.of, owner, owner.pod_selector, PODS, lambda pod: pod.active)
        active = [pod for pod in mine if pod.active]
        ready = [pod for pod in active if pod.ready]
        available, again_s = pods.available(view, ready, owner.spec.min_ready_seconds, now)
        leaving = owner.metadata.deletion_timestamp is not None
        scaling = () if leaving else self._scale(view, owner, active, rng)
        status = self.status(owner, mine, active, len(ready), len(available))
        recovered = not scaling and not leaving and condition(owner.status.conditions, FAILURE) is not None
        report = self._report(owner, {**status, **({"conditions": _others(owner)} if recovered else {})})
        return Plan([*claims, *scaling, *report], again_s, refused=lambda refusals: self._refused(owner, refusals, view.wall()))

    def status(self, owner: Any, mine: Sequence[Pod], active: Sequence[Pod], ready: int, available: int) -> dict[str, Any]:
        """Return the owner's new status."""
        labels = owner.spec.pod_template().metadata.labels.items()
        return {
            "replicas": len(active),
            "fullyLabeledReplicas": sum(labels <= pod.metadata.labels.items() for pod in active),
            "readyReplicas": ready,
            "availableReplicas": available,
            "observedGeneration": owner.metadata.generation,
        }

    def _pause_s(self, view: View, owner: Any, now: float) -> float:
        """Return how long a large owner waits for further changes of its pods. One that wants more or fewer than it reports never waits."""
        status, metadata = owner.status, owner.metadata
        if metadata.deletion_timestamp or status.observed_generation != metadata.generation or status.replicas != owner.spec.replicas:
            return 0.0
        if view.count(PODS, "controller", metadata.uid) != status.replicas:
            return 0.0  # a pod is missing
        return pause_s(status.replicas, view.seen(self.kind, metadata.key), now, COUNTED_BETWEEN_S)

    def siblings(self, _view: View, _owner: Any, active: Sequence[Pod]) -> Collection[Pod]:
        """Return the pods that count when the surplus is spread over nodes."""
        return active

    def _scale(self, view: View, owner: Any, active: Sequence[Pod], rng: Random) -> Iterable[Action]:
        missing = owner.spec.replicas - len(active)
        if missing > 0:
            count = min(missing, max(len(active), self._settings.slow_start), self._settings.burst)
            return pods.creations(self.of, owner, count, rng, f"which wants {owner.spec.replicas}")
        if missing < 0:
            rank = pods.least_useful_first(self.siblings(view, owner, active))
            surplus = sorted(active, key=rank)[: min(-missing, self._settings.burst)]
            return [pods.deletion(self.of, owner, pod, f"which wants only {owner.spec.replicas}") for pod in surplus]
        return ()

    def _report(self, owner: Any, status: Mapping[str, Any]) -> Iterator[Action]:
        if "conditions" in status or any(getattr(owner.status, _snake(field)) != value for field, value in status.items()):
            yield Patch(self.kind, owner.metadata.key, {"status": dict(status)}, subresource="status")

    def _refused(self, owner: Any, refusals: Sequence[Refusal], wall_s: float) -> Sequence[Action]:
        """Say in the status that pods can't be made, once: generated names differ, so the words differ with each try."""
        said = next((str(error.args[0]) for action, error in refusals if isinstance(action, Create)), "")
        if not said or condition(owner.status.conditions, FAILURE) is not None:
            return ()
        conditions = with_condition(owner.status.conditions, FAILURE, "True", "FailedCreate", said, wall_s)
        return [Patch(self.kind, owner.metadata.key, {"status": {"conditions": conditions}}, subresource="status")]

    def _concerned(self, view: View, seen: Seen) -> Iterator[Key]:
        """Yield the owners that a pod's change concerns. The pod's node and its containers' states concern none of them."""
        old, new = seen.old, seen.new
        if old is not None and new is not None and _digest(old) == _digest(new):
            return
        yield from concerned(view, self.of, seen)


def _others(owner: Any) -> list[dict[str, Any]] | None:
    """Return the owner's conditions without the one about failures; None, which removes the list, if there is no other."""
    return [plain(each) for each in owner.status.conditions if each.type != FAILURE] or None


def _digest(pod: Pod) -> tuple[Any, ...]:
    metadata = pod.metadata
    return metadata.labels, metadata.owner_references, pod.active, pod.ready, metadata.deletion_timestamp is None


def _snake(field: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in field)
