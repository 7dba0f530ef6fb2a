"""The StatefulSet controller: pods 0, 1, 2, ..., each made after the one before it is ready, and deleted in the opposite order.

    claim pods ─► their revisions ─► replicas: make, or make again what ended ─► condemned: delete, highest first ─► old revisions: delete, highest first

A set with the policy Parallel does not wait when it makes and deletes. An update of the template always goes one by one (or by as many as
maxUnavailable allows), from the highest number down to the partition. A pod's claims are made before it and outlive it, unless the
retention policy says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from labctl.controllers.indexes import CLAIMS, PODS, PODS_READY, REVISIONS, STATEFUL_SETS
from labctl.controllers.settings import ControllerSettings
from labctl.controllers.shared import pods, revisions
from labctl.controllers.shared.ownership import claim, concerned, owned, owners
from labctl.controllers.shared.revisions import REVISION_LABEL
from labctl.controllers.statefulset import identity
from labctl.controllers.statefulset.identity import STATEFUL_SET
from labctl.reconcile.plan import NOTHING, Action, Create, Delete, Index, Key, Patch, Plan, Seen, View
from labctl.resources.kinds.apps_v1.statefulset import PARALLEL, StatefulSet
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.shares import share


class Members(NamedTuple):
    """The set's pods by number. `wanted` are the numbers that should exist; `condemned` are pods with other numbers, the highest first."""

    wanted: range
    there: Mapping[int, Pod]
    condemned: Sequence[Pod]
    available: frozenset[Key]

    def healthy(self, pod: Pod | None) -> bool:
        """Tell whether a pod is running, ready for minReadySeconds, and not being deleted."""
        return pod is not None and pod.metadata.deletion_timestamp is None and pod.metadata.key in self.available


class StatefulSets:
    """The controller that the module's docstring describes."""

    name = "statefulset-controller"
    kind = STATEFUL_SETS

    def __init__(self, settings: ControllerSettings) -> None:
        self._settings = settings
        self.watches = {STATEFUL_SETS: lambda _view, seen: (seen.key,), PODS: _of_pod, REVISIONS: _of_revision, CLAIMS: _of_claim}
        self.indexes: Mapping[tuple[str, str], Index] = {**owned(PODS), **owned(REVISIONS), **PODS_READY, **owners(STATEFUL_SETS)}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        stateful: StatefulSet | None = view.get(STATEFUL_SETS, key)
        if stateful is None:
            return NOTHING
        mine, claims = claim(
            view, STATEFUL_SET, stateful, stateful.pod_selector, PODS, lambda pod: identity.ordinal(stateful, pod) is not None
        )
        ready = [pod for pod in mine if pod.ready and not pod.finished]
        available, again_s = pods.available(view, ready, stateful.spec.min_ready_seconds, now)
        members = _members(stateful, mine, available)
        history = revisions.history(view, STATEFUL_SET, stateful, stateful.status.collision_count or 0)
        current = stateful.status.current_revision or history.name
        status = _status(stateful, mine, members, history, current)
        if stateful.metadata.deletion_timestamp is not None:
            return Plan([*claims, *status])
        step = _Step(view, stateful, members, history, current, self._settings.burst)
        used = {pod.metadata.labels.get(REVISION_LABEL, "") for pod in mine} | {history.name, current}
        forgotten = revisions.superfluous(history.known, used, stateful.spec.revision_history_limit)
        return Plan([*claims, *history.actions, *step.actions(), *forgotten, *status], again_s)


def _members(stateful: StatefulSet, mine: Sequence[Pod], available: Sequence[Pod]) -> Members:
    start = stateful.spec.ordinals.start
    wanted = range(start, start + stateful.spec.replicas)
    numbered = {number: pod for pod in mine if (number := identity.ordinal(stateful, pod)) is not None}
    there = {number: pod for number, pod in numbered.items() if number in wanted}
    condemned = [numbered[number] for number in sorted(numbered, reverse=True) if number not in wanted]
    return Members(wanted, there, condemned, frozenset(pod.metadata.key for pod in available))


class _Step:
    """The actions of one plan: one at a time if the order counts, otherwise all at once."""

    def __init__(self, view: View, stateful: StatefulSet, members: Members, history: revisions.History, current: str, burst: int) -> None:
        self._view, self._set, self._members, self._history, self._current = view, stateful, members, history, current
        self._burst = burst
        self._ordered = stateful.spec.pod_management_policy != PARALLEL

    def actions(self) -> list[Action]:
        done: list[Action] = []
        for part in (self._ownership, self._replicas, self._condemned, self._updates):
            waits = False
            for action in part():
                if action is None:
                    waits = True
                    break
                done.append(action)
            if waits:
                break
        return done

    # Each of these yields actions, and None if everything after that has to wait.

    def _ownership(self) -> Iterator[Action | None]:
        """Let claims go, or stay, as the retention policy says now."""
        for template in identity.claim_templates(self._set):
            for pod in self._members.there.values():
                yield from self._owners(template, pod, scaled_away=False)
            for pod in self._members.condemned:
                yield from self._owners(template, pod, scaled_away=True)

    def _replicas(self) -> Iterator[Action | None]:
        left = self._burst
        for number in self._members.wanted:
            pod = self._members.there.get(number)
            if pod is None:
                if not left:
                    return  # the next plan goes on; two billion may be wanted
                left -= 1
                yield from self._create(number)
            elif pod.finished and pod.metadata.deletion_timestamp is None:
                reason = "RecreatingFailedPod" if pod.status.phase == "Failed" else "RecreatingTerminatedPod"
                message = f"StatefulSet {self._set.metadata.key} is recreating {pod.status.phase.lower()} Pod {pod.metadata.name}"
                yield pods.event(STATEFUL_SET, self._set, reason, message, "Warning")
                yield self._delete(pod, "which makes it anew because it has ended")
            elif pod.status.phase == "Pending" and not pod.spec.node_name:
                yield from self._claims(pod.metadata.name)
            if self._ordered and not self._members.healthy(pod):
                yield None

    def _condemned(self) -> Iterator[Action | None]:
        """Delete the highest number first. While a pod is unhealthy, only that one may go earlier."""
        if not self._members.condemned:
            return
        unhealthy = [pod for pod in reversed(self._members.condemned) if not self._members.healthy(pod)]
        for pod in self._members.condemned:
            if pod.metadata.deletion_timestamp is not None:
                if self._ordered:
                    yield None
                continue
            if self._ordered and not self._members.healthy(pod) and pod is not unhealthy[0]:
                yield None
            yield self._delete(pod, f"which wants only {self._set.spec.replicas}")
            if self._ordered:
                yield None

    def _updates(self) -> Iterator[Action | None]:
        strategy = self._set.spec.update_strategy
        if strategy.type != "RollingUpdate":
            return
        first = self._set.spec.ordinals.start + (strategy.rolling_update.partition if strategy.rolling_update else 0)
        numbers = range(max(first, self._members.wanted.start), self._members.wanted.stop)
        there = [pod for number, pod in sorted(self._members.there.items(), reverse=True) if number in numbers]
        may_go = self._most_unavailable() - (len(numbers) - sum(map(self._members.healthy, there)))  # one that is missing is unhealthy
        for pod in there:
            if pod.metadata.deletion_timestamp is not None:
                continue
            old = pod.metadata.labels.get(REVISION_LABEL) != self._history.name
            healthy = self._members.healthy(pod)
            if old and (may_go > 0 or not healthy):
                yield self._delete(pod, "whose template has changed")
                may_go -= healthy
            elif not healthy or old:
                yield None  # the ones below wait for this one

    def _most_unavailable(self) -> int:
        rolling = self._set.spec.update_strategy.rolling_update
        value = rolling.max_unavailable if rolling and rolling.max_unavailable is not None else 1
        return value if isinstance(value, int) else max(1, share(value, self._set.spec.replicas, up=False))

    # -- pods and claims ---------------------------------------------------------------------------------------------------------------

    def _create(self, number: int) -> Iterator[Action]:
        name = identity.pod_name(self._set, number)
        yield from self._claims(name)
        revision = self._revision_for(number)
        template = revisions.template_of(self._history.known, revision) if revision != self._history.name else None
        if template is None:
            revision, template = self._history.name, bytes(self._set.spec.template)
        said = pods.event(
            STATEFUL_SET, self._set, "SuccessfulCreate", f"create Pod {name} in StatefulSet {self._set.metadata.name} successful"
        )
        why = f"created by {STATEFUL_SET.named(self._set)}, which wants {self._set.spec.replicas}"
        yield Create(PODS, identity.pod_of(self._set, number, template, revision), why, said)

    def _revision_for(self, number: int) -> str:
        """Return the revision for a pod that is made again: below the partition it gets the template that it had."""
        strategy = self._set.spec.update_strategy
        partition = strategy.rolling_update.partition if strategy.rolling_update else 0
        below = strategy.type == "RollingUpdate" and number < self._set.spec.ordinals.start + partition
        return self._current if below else self._history.name

    def _claims(self, pod: str) -> Iterator[Action]:
        """Make the missing claims of a pod."""
        for whole in identity.claims_of(self._set, pod):
            name = whole["metadata"]["name"]
            if self._view.get(CLAIMS, f"{self._set.metadata.namespace}/{name}") is None:
                message = f"create Claim {name} Pod {pod} in StatefulSet {self._set.metadata.name} success"
                said = pods.event(STATEFUL_SET, self._set, "SuccessfulCreate", message)
                yield Create(CLAIMS, whole, f"created by {STATEFUL_SET.named(self._set)} for pod {pod}", said)

    def _owners(self, template: Mapping[str, Any], pod: Pod, *, scaled_away: bool) -> Iterator[Action]:
        found = self._view.get(CLAIMS, f"{self._set.metadata.namespace}/{identity.claim_name(template, pod.metadata.name)}")
        owners = identity.owners_of_claim(self._set, pod, found, scaled_away=scaled_away) if found is not None else None
        if owners is not None:
            why = f"as the retention policy of {STATEFUL_SET.named(self._set)} says"
            patch = {"metadata": {"ownerReferences": owners or None}}
            yield Patch(CLAIMS, found.metadata.key, patch, revision=found.metadata.revision, why=why)

    def _delete(self, pod: Pod, why: str) -> Delete:
        name = self._set.metadata.name
        said = pods.event(STATEFUL_SET, self._set, "SuccessfulDelete", f"delete Pod {pod.metadata.name} in StatefulSet {name} successful")
        return Delete(PODS, pod.metadata.key, pod.metadata.uid, why=f"deleted by {STATEFUL_SET.named(self._set)}, {why}", event=said)


# -- status ----------------------------------------------------------------------------------------------------------------------------


def _status(stateful: StatefulSet, mine: Sequence[Pod], members: Members, history: revisions.History, current: str) -> Iterator[Action]:
    counted = [pod for pod in mine if not pod.finished]
    staying = [pod for pod in counted if pod.metadata.deletion_timestamp is None]
    ready = sum(pod.ready for pod in counted)
    on_update = sum(pod.metadata.labels.get(REVISION_LABEL) == history.name for pod in staying)
    done = on_update == ready == len(counted) == stateful.spec.replicas  # whatever the strategy, since Kubernetes 1.37
    now = history.name if done else current
    status: dict[str, Any] = {
        "replicas": len(counted),
        "readyReplicas": ready,
        "availableReplicas": sum(pod.metadata.key in members.available for pod in counted),
        "currentReplicas": sum(pod.metadata.labels.get(REVISION_LABEL) == now for pod in staying),
        "updatedReplicas": on_update,
        "currentRevision": now,
        "updateRevision": history.name,
        "observedGeneration": stateful.metadata.generation,
        "collisionCount": (stateful.status.collision_count or 0) + history.collided,
    }
    if stateful.status.plain() != status:
        yield Patch(STATEFUL_SETS, stateful.metadata.key, {"status": status}, subresource="status")


# -- whom a change concerns ------------------------------------------------------------------------------------------------------------


def _of_pod(view: View, seen: Seen) -> Iterator[Key]:
    yield from concerned(view, STATEFUL_SET, seen)
    gone = seen.old if seen.new is None else None
    if gone is not None and gone.metadata.controller is None:  # a foreign pod that had the name of one of ours
        yield f"{gone.metadata.namespace}/{gone.metadata.name.rpartition('-')[0]}"


def _of_revision(view: View, seen: Seen) -> Iterator[Key]:
    return concerned(view, STATEFUL_SET, seen)


def _of_claim(view: View, seen: Seen) -> Iterator[Key]:
    """Yield the set of a deleted claim, which a waiting pod may need: `www-web-0` belongs to the set `web`."""
    if seen.new is not None:
        return
    set_of_pod = seen.key.rpartition("-")[0].partition("/")[2]
    for stateful in view.all(STATEFUL_SETS, seen.key.partition("/")[0]):
        if set_of_pod.endswith(f"-{stateful.metadata.name}"):
            yield stateful.metadata.key
