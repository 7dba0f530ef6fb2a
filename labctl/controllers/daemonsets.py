"""The DaemonSet controller: one pod on every node on which the template may run.

    each node ─► may a pod run here, may it stay? ─► make what is missing, delete what is too much, has failed or may not stay
              ─► is its pod of an old template? ─► delete it (maxUnavailable), or make the new one beside it (maxSurge)

A pod gets its node by a node affinity, and goes through the scheduler like any other. It tolerates what pods of Kubernetes' own DaemonSets
tolerate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

import msgspec

from labctl.controllers.indexes import DAEMON_SETS, NODES, PODS, PODS_READY, REVISIONS
from labctl.controllers.settings import ControllerSettings
from labctl.controllers.shared import pods, revisions
from labctl.controllers.shared.ownership import OwnerKind, claim, concerned, owned, owners
from labctl.controllers.shared.revisions import REVISION_LABEL
from labctl.reconcile.plan import NOTHING, Action, Index, Key, Patch, Plan, Seen, View
from labctl.resources import taints
from labctl.resources.kinds.apps_v1.daemonset import DaemonSet
from labctl.resources.kinds.core_v1.node import Node, Taint
from labctl.resources.kinds.core_v1.pod_view import Pod, Toleration
from labctl.resources.placement import wants_node
from labctl.resources.shares import share
from labctl.resources.tolerations import tolerated
from labctl.resources.verbs.meta import generated

DAEMON_SET = OwnerKind(DAEMON_SETS, "apps/v1", "DaemonSet")
FAILED_AGAIN_S = 5.0
_NAME_FIELD = "metadata.name"
_TOLERATED = (
    (taints.NOT_READY, "NoExecute"),
    (taints.UNREACHABLE, "NoExecute"),
    (taints.DISK_PRESSURE, "NoSchedule"),
    (taints.MEMORY_PRESSURE, "NoSchedule"),
    (taints.PID_PRESSURE, "NoSchedule"),
    (taints.UNSCHEDULABLE, "NoSchedule"),
)
_TOLERATED_ON_HOST_NETWORK = ((taints.NETWORK_UNAVAILABLE, "NoSchedule"),)
_CORDONED = Taint(taints.UNSCHEDULABLE, effect="NoSchedule")


class Place(NamedTuple):
    """A node and the pods there that belong to the DaemonSet, the oldest first. Pods that are being deleted are listed apart."""

    node: Node
    runs: bool  # a pod should be here
    stays: bool  # a pod that is here already may stay
    pods: Sequence[Pod]
    leaving: Sequence[Pod]

    def of(self, word: str, *, updated: bool) -> Pod | None:
        """Return the oldest pod of the present template, or of another one."""
        return next((pod for pod in self.pods if (pod.metadata.labels.get(REVISION_LABEL) == word) == updated), None)


class DaemonSets:
    """The controller that the module's docstring describes."""

    name = "daemonset-controller"
    kind = DAEMON_SETS

    def __init__(self, settings: ControllerSettings = ControllerSettings()) -> None:  # noqa: B008 - frozen
        self._settings = settings
        self.watches = {DAEMON_SETS: lambda _view, seen: (seen.key,), PODS: _of_pod, NODES: _of_node, REVISIONS: _of_revision}
        self.indexes: Mapping[tuple[str, str], Index] = {**owned(PODS), **owned(REVISIONS), **PODS_READY, **owners(DAEMON_SETS)}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        daemon: DaemonSet | None = view.get(DAEMON_SETS, key)
        if daemon is None:
            return NOTHING
        mine, claims = claim(view, DAEMON_SET, daemon, daemon.pod_selector, PODS, lambda _pod: True)
        places = _places(view, daemon, mine)
        ready = [pod for pod in mine if pod.ready]
        available, ready_again_s = pods.available(view, ready, daemon.spec.min_ready_seconds, now)
        there = {pod.metadata.key for pod in available}
        history = revisions.history(view, DAEMON_SET, daemon, daemon.status.collision_count or 0)
        word = revisions.word(daemon, history.name)
        status = list(_status(daemon, places, there, word, history.collided))
        if daemon.metadata.deletion_timestamp is not None:
            return Plan([*claims, *status])
        step = _Step(view, daemon, places, there, word, now, rng)
        used = {f"{daemon.metadata.name}-{pod.metadata.labels.get(REVISION_LABEL, '')}" for pod in mine} | {history.name}
        forgotten = revisions.superfluous(history.known, used, daemon.spec.revision_history_limit)
        acts = [*step.managed(), *step.updated()][: self._settings.burst]
        waits = [wait for wait in (ready_again_s, step.again_s) if wait is not None]
        return Plan([*claims, *history.actions, *acts, *forgotten, *status], min(waits, default=None))


class _Step:
    """The actions of one plan on pods."""

    def __init__(
        self, view: View, daemon: DaemonSet, places: Sequence[Place], available: set[Key], word: str, now: float, rng: Random
    ) -> None:
        self._view, self._daemon, self._places, self._available = view, daemon, places, available
        self._word, self._now, self._rng = word, now, rng
        self._template: dict[str, Any] = msgspec.json.decode(daemon.spec.template)
        self._desired = sum(place.runs for place in places)
        self.again_s: float | None = None

    def managed(self) -> Iterator[Action]:
        """Yield the actions on pods that are missing, have ended, are too many on their node, or may not stay."""
        for place in self._places:
            if place.runs and not place.pods and not place.leaving:
                yield self._create(place)
            if not place.stays:
                yield from (self._delete(pod, "whose template may not run there") for pod in place.pods)
                continue
            ended = [pod for pod in place.pods if pod.finished]
            for pod in ended:
                yield from self._after_end(pod)
            yield from self._surplus([pod for pod in place.pods if not pod.finished])

    def _after_end(self, pod: Pod) -> Iterator[Action]:
        """Replace a pod that has ended. One that failed is replaced only after a while, so that one that fails at once costs little."""
        left_s = FAILED_AGAIN_S - (self._now - self._view.seen(PODS, pod.metadata.key))
        if pod.status.phase == "Failed" and left_s > 0:
            self.again_s = left_s if self.again_s is None else min(left_s, self.again_s)
            return
        reason = "FailedDaemonPod" if pod.status.phase == "Failed" else "SucceededDaemonPod"
        verb = "Found failed daemon pod" if pod.status.phase == "Failed" else "Found succeeded daemon pod"
        message = f"{verb} {pod.metadata.key} on node {pod.spec.node_name}, will try to delete it"
        yield pods.event(DAEMON_SET, self._daemon, reason, message, "Warning" if pod.status.phase == "Failed" else "Normal")
        yield self._delete(pod, "which replaces what has ended")

    def _surplus(self, there: Sequence[Pod]) -> Iterator[Action]:
        """More than one: the oldest stays; while updates surge, the oldest of each template."""
        if not self._surge:
            yield from (self._delete(pod, "which wants one pod on a node") for pod in there[1:])
            return
        for updated in (True, False):
            same = [pod for pod in there if (pod.metadata.labels.get(REVISION_LABEL) == self._word) == updated]
            yield from (self._delete(pod, "which wants one pod on a node") for pod in same[1:])

    # -- a template that changed -------------------------------------------------------------------------------------------------------

    def updated(self) -> Iterable[Action]:
        if self._daemon.spec.update_strategy.type != "RollingUpdate":
            return ()
        running = [place for place in self._places if place.runs and place.stays]
        return self._surging(running) if self._surge else self._replacing(running)

    @property
    def _surge(self) -> int:
        rolling = self._daemon.spec.update_strategy.rolling_update
        return _count(rolling.max_surge, self._desired) if rolling else 0

    @property
    def _unavailable(self) -> int:
        rolling = self._daemon.spec.update_strategy.rolling_update
        return _count(rolling.max_unavailable, self._desired) if rolling else 1

    def _replacing(self, running: Sequence[Place]) -> Iterator[Action]:
        """Delete old pods before new ones are made: unavailable ones at once, the others as far as maxUnavailable allows."""
        unavailable, candidates = 0, []
        for place in running:
            new, old = place.of(self._word, updated=True), place.of(self._word, updated=False)
            current = new or old
            if current is None or current.metadata.key not in self._available:
                unavailable += 1
                if old is not None and new is None and not old.finished:
                    yield self._delete(old, "whose template has changed")
            elif new is None and old is not None:
                candidates.append(old)
        yield from (self._delete(pod, "whose template has changed") for pod in candidates[: max(0, self._unavailable - unavailable)])

    def _surging(self, running: Sequence[Place]) -> Iterator[Action]:
        """Make new pods beside the old ones, as many as maxSurge allows. An old one is deleted when its new one is available."""
        surging = 0
        urgent: list[Place] = []
        candidates: list[Place] = []
        for place in running:
            new, old = place.of(self._word, updated=True), place.of(self._word, updated=False)
            if old is None:
                continue
            if new is None:
                (candidates if old.metadata.key in self._available else urgent).append(place)
            elif new.metadata.key in self._available:
                yield self._delete(old, "whose template has changed")
            else:
                surging += 1
        for place in [*urgent, *candidates][: max(0, self._surge - surging)]:
            yield self._create(place)

    # -- pods --------------------------------------------------------------------------------------------------------------------------

    def _delete(self, pod: Pod, why: str) -> Action:
        return pods.deletion(DAEMON_SET, self._daemon, pod, why)

    def _create(self, place: Place) -> Action:
        template = {**self._template, "metadata": {**(self._template.get("metadata") or {})}}
        template["metadata"]["labels"] = {**(template["metadata"].get("labels") or {}), REVISION_LABEL: self._word}
        template["spec"] = _placed(template.get("spec") or {}, place.node.metadata.name)
        name = generated(f"{self._daemon.metadata.name}-", self._rng)
        return pods.creation(DAEMON_SET, self._daemon, name, template, f"which wants one on {place.node.metadata.name}")


def _count(value: int | str, of: int) -> int:
    """Return a number, or a percentage of the nodes, rounded up."""
    return share(value, of)


def _placed(spec: Mapping[str, Any], node: str) -> dict[str, Any]:
    """Return the spec with the affinity for its node, in every term of what the template asks for, and with a DaemonSet's tolerations."""
    affinity = dict(spec.get("affinity") or {})
    wanted = dict(affinity.get("nodeAffinity") or {})
    required = (wanted.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or [{}]
    here = [{"key": _NAME_FIELD, "operator": "In", "values": [node]}]
    wanted["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [{**term, "matchFields": here} for term in required]}
    affinity["nodeAffinity"] = wanted
    return {**spec, "affinity": affinity, "tolerations": [*(spec.get("tolerations") or ()), *_added_tolerations(spec)]}


def _added_tolerations(spec: Mapping[str, Any]) -> list[dict[str, str]]:
    pairs = [*_TOLERATED, *(_TOLERATED_ON_HOST_NETWORK if spec.get("hostNetwork") else ())]
    wanted = [{"key": key, "operator": "Exists", "effect": effect} for key, effect in pairs]
    return [each for each in wanted if each not in (spec.get("tolerations") or ())]


# -- nodes -----------------------------------------------------------------------------------------------------------------------------


def _places(view: View, daemon: DaemonSet, mine: Sequence[Pod]) -> list[Place]:
    by_node: dict[str, list[Pod]] = {}
    for pod in sorted(mine, key=lambda pod: (not pod.spec.node_name, pod.metadata.creation_timestamp or "", pod.metadata.name)):
        by_node.setdefault(_node_of(pod), []).append(pod)
    spec = daemon.spec.pod_template().spec
    added = _TOLERATED + (_TOLERATED_ON_HOST_NETWORK if spec.host_network else ())
    tolerations = (*spec.tolerations, *(Toleration(key, "Exists", effect=effect) for key, effect in added))
    places = []
    for node in view.all(NODES):
        there = by_node.get(node.metadata.name, [])
        runs, stays = _fits(spec, tolerations, node)
        alive = [pod for pod in there if pod.metadata.deletion_timestamp is None]
        places.append(Place(node, runs, stays, alive, [pod for pod in there if pod.metadata.deletion_timestamp is not None]))
    return places


def _fits(spec: Any, tolerations: Sequence[Toleration], node: Node) -> tuple[bool, bool]:
    """Return whether a pod should be there, and whether one that is there may stay."""
    if spec.node_name not in ("", node.metadata.name) or not wants_node(spec, node):
        return False, False
    taints = [*node.spec.taints, *([_CORDONED] if node.spec.unschedulable else ())]
    refused = [taint.effect for taint in taints if taint.effect != "PreferNoSchedule" and not tolerated(taint, tolerations)]
    return not refused, "NoExecute" not in refused


def _node_of(pod: Pod) -> str:
    """Return the node where the pod runs, or is to run."""
    if pod.spec.node_name or pod.spec.affinity is None:
        return pod.spec.node_name
    for term in pod.spec.affinity.required:
        for field in term.match_fields:
            if field.key == _NAME_FIELD and len(field.values) == 1:
                return field.values[0]
    return ""


# -- status ----------------------------------------------------------------------------------------------------------------------------


def _status(daemon: DaemonSet, places: Sequence[Place], available: set[Key], word: str, collided: bool) -> Iterator[Action]:
    wanted = [place for place in places if place.runs]
    first = [place.pods[0] for place in wanted if place.pods]
    served = [place for place in wanted if any(pod.metadata.key in available for pod in place.pods)]
    status = {
        "currentNumberScheduled": len(first),
        "desiredNumberScheduled": len(wanted),
        "numberMisscheduled": sum(bool(place.pods) for place in places if not place.runs),
        "numberReady": sum(any(pod.ready for pod in place.pods) for place in wanted),
        "updatedNumberScheduled": sum(place.of(word, updated=True) is not None for place in wanted),
        "numberAvailable": len(served),
        "numberUnavailable": len(wanted) - len(served),
        "observedGeneration": daemon.metadata.generation,
    }
    if collided:
        more = (daemon.status.collision_count or 0) + 1
        yield Patch(DAEMON_SETS, daemon.metadata.key, {"status": {**status, "collisionCount": more}}, subresource="status")
    elif daemon.status.numbers() != status:
        yield Patch(DAEMON_SETS, daemon.metadata.key, {"status": status}, subresource="status")


# -- whom a change concerns ------------------------------------------------------------------------------------------------------------


def _of_pod(view: View, seen: Seen) -> Iterator[Key]:
    return concerned(view, DAEMON_SET, seen)


def _of_node(view: View, seen: Seen) -> Iterable[Key]:
    """Yield all DaemonSets if a node came, went, or may now take other pods. Its heartbeats concern none."""
    old, new = seen.old, seen.new
    if old is not None and new is not None and (old.spec, old.metadata.labels) == (new.spec, new.metadata.labels):
        return ()
    return [daemon.metadata.key for daemon in view.all(DAEMON_SETS)]


def _of_revision(view: View, seen: Seen) -> Iterator[Key]:
    return concerned(view, DAEMON_SET, seen)
