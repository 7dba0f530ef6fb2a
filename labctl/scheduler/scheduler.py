"""The scheduler decides for one pod at a time. It writes a Binding, or the reason why there is none.

It is a controller like the others (key: a pod that has no node yet), planned by priority, and then in the order in which pods were created. As an observer it
keeps a picture of the nodes (cluster.py) up to date, which `plan` only reads. A decided pod counts at once (`decided`), so the next decision needs not wait for
the binding to be seen. A pod that fits nowhere may preempt others (preemption.py); then it is parked with the reason on its PodScheduled condition, and woken
when a node changes, a pod leaves one, or a pod comes that it wants to be near.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

import msgspec

from labctl.clock import rfc3339
from labctl.reconcile.plan import NOTHING, Action, Bind, Delete, Index, Key, Patch, Plan, Record, Seen, View
from labctl.resources.conditions import with_condition
from labctl.resources.disruption import BY_SCHEDULER, disrupted
from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.shared import condition
from labctl.resources.plurals import CLAIMS, NODES, PODS, STORAGE_CLASSES, VOLUMES
from labctl.scheduler import volumes
from labctl.scheduler.cluster import Cluster, NodeState, Placed
from labctl.scheduler.demand import demand_of
from labctl.scheduler.filters import Situation, sentence
from labctl.scheduler.preemption import NO_HELP, Candidate, preempt
from labctl.scheduler.refusal import Refusal
from labctl.scheduler.scores import best
from labctl.scheduler.settings import SchedulerSettings
from labctl.scheduler.terms import NamespaceLabels, Terms

_NAMESPACES = "namespaces"


class _Parked(msgspec.Struct):
    """A pod that fitted nowhere."""

    attempts: int
    not_before: float  # monotonic
    namespace: str
    terms: Terms | None


class Scheduler:
    kind = PODS
    follows = (NODES, PODS, CLAIMS, VOLUMES, STORAGE_CLASSES)

    def __init__(self, settings: SchedulerSettings = SchedulerSettings()) -> None:  # noqa: B008 - frozen
        self.name = settings.name
        self._settings = settings
        self._cluster = Cluster()
        self._parked: dict[Key, _Parked] = {}
        self._turn = 0
        self.watches: Mapping[str, Callable[[View, Seen], Iterable[Key]]] = {
            NODES: self._freed_by_node,
            PODS: self._concerned_by_pod,
            CLAIMS: self._concerned_by_claim,
            VOLUMES: self._concerned_by_volume,
            STORAGE_CLASSES: self._concerned_by_volume,
        }
        self.indexes: Mapping[tuple[str, str], Index] = volumes.INDEXES

    def rank(self, view: View, key: Key) -> int:
        """Return the pod's priority. Of the pods that wait, the one with the highest rank is planned first."""
        pod: Pod | None = view.get(PODS, key)
        return (pod.spec.priority or 0) if pod is not None else 0

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        pod: Pod | None = view.get(PODS, key)
        if pod is None or not self._mine(pod):
            return NOTHING
        parked = self._parked.get(key)
        if parked and now < parked.not_before:
            return Plan(again_s=parked.not_before - now)
        labels_of = _namespace_labels(view)
        wanted = volumes.of_pod(view, pod)
        if wanted.problem:
            return self._refuse_everywhere(view, pod, wanted.problem)
        situation = Situation(pod, demand_of(pod), self._cluster, labels_of, wanted)
        fitting, refused = self._look(situation)
        if not fitting:
            return self._refuse(view, situation, refused)
        chosen, why = best(situation, fitting, self._cluster, labels_of, rng)
        if not wanted.complete:
            assert chosen.node is not None
            return volumes.prepare(wanted, chosen.node, why)
        event = Record(PODS, key, "Scheduled", f"Successfully assigned {key} to {chosen.name}")
        return Plan([Bind(key, chosen.name, pod.metadata.uid, why, event)])

    def refusals(self, view: View, key: Key) -> list[str]:
        """Why a waiting pod is on none of the nodes, a line for each node, for `labctl why`."""
        pod: Pod | None = view.get(PODS, key)
        if pod is None or not self._mine(pod):
            return []
        wanted = volumes.of_pod(view, pod)
        if wanted.problem:
            return [f"{state.name}: {wanted.problem}" for state in self._cluster.nodes()]
        fitting, refused = self._look(Situation(pod, demand_of(pod), self._cluster, _namespace_labels(view), wanted))
        told = {state.name: "it would fit now" for state in fitting}
        told |= {state.name: ", ".join(refusal.reasons) for state, refusal in refused}
        return [f"{name}: {told[name]}" for name in sorted(told)]

    def refusal(self, view: View, key: Key, node: str) -> list[str] | None:
        """Why a node would not take a pod now, wherever the pod is; nothing if it would; None if the node is not known. For `labctl why --not-on`."""
        pod: Pod | None = view.get(PODS, key)
        state = next((each for each in self._cluster.nodes() if each.name == node), None)
        if pod is None or state is None:
            return None
        wanted = volumes.of_pod(view, pod)
        if wanted.problem:
            return [wanted.problem]
        situation = Situation(pod, demand_of(pod), self._cluster, _namespace_labels(view), wanted)
        refusal = self._refuses(situation, state)
        return list(refusal.reasons) if refusal else []

    # -- the picture of the cluster ----------------------------------------------------------------------------------------------------

    def seen(self, view: View, change: Seen) -> None:
        if change.kind == NODES:
            self._node_seen(change)
        elif change.kind == PODS:
            self._pod_seen(change)
        elif change.kind == CLAIMS:
            for key in self._concerned_by_claim(view, change):
                self._parked.pop(key, None)

    def decided(self, view: View, key: Key, plan: Plan, now: float) -> None:
        """Count a pod where it will be bound; note one that fits nowhere, and when to look again."""
        pod: Pod | None = view.get(PODS, key)
        if pod is None or not self._mine(pod):
            self._parked.pop(key, None)
            return
        parked = self._parked.get(key)
        if parked and now < parked.not_before:
            return
        self._turn += 1
        demand = demand_of(pod)
        if node := _chosen(plan):
            self._parked.pop(key, None)
            self._cluster.place(pod, node, demand)
            return
        self._cluster.lift(key)
        nominated = _nomination(plan, key, pod.status.nominated_node_name)
        self._cluster.nominate(pod, nominated, demand)
        attempts = 1 if nominated or not parked else parked.attempts + 1
        backoff_s = min(self._settings.backoff_max_s, self._settings.backoff_min_s * 2 ** min(attempts - 1, 30))
        self._parked[key] = _Parked(attempts, now + backoff_s, pod.metadata.namespace, demand.terms)

    def _node_seen(self, change: Seen) -> None:
        if change.new is None:
            self._cluster.drop_node(change.key)
        elif change.old is None or _offer(change.old) != _offer(change.new):
            self._cluster.set_node(change.new)

    def _pod_seen(self, change: Seen) -> None:
        old: Pod | None = change.old
        pod: Pod | None = change.new
        if pod is None or pod.finished:
            self._cluster.lift(change.key)
            self._cluster.forget_nomination(change.key)
        elif pod.spec.node_name:
            placed = self._cluster.placed(change.key)
            if placed is None or placed.node != pod.spec.node_name or (old is not None and _counts_differently(old, pod)):
                self._cluster.place(pod, pod.spec.node_name, demand_of(pod))
            else:
                self._cluster.renew(pod)
        elif self._mine(pod) and (old is None or old.status.nominated_node_name != pod.status.nominated_node_name):
            self._cluster.nominate(pod, pod.status.nominated_node_name, demand_of(pod))
        elif not pod.active:
            self._cluster.forget_nomination(change.key)
        if pod is None or (pod.spec.node_name and not pod.finished):
            self._parked.pop(change.key, None)

    # -- what a change concerns --------------------------------------------------------------------------------------------------------

    def _freed_by_node(self, _view: View, seen: Seen) -> Iterable[Key]:
        """Return the pods that no node could take, because a node that offers something else may take them."""
        changed = seen.new is not None and (seen.old is None or _offer(seen.old) != _offer(seen.new))
        return tuple(self._parked) if changed else ()

    def _concerned_by_pod(self, view: View, seen: Seen) -> Iterable[Key]:
        """Return the pod if it waits for a node; or, when a pod left its node, all pods that no node could take."""
        old, pod = seen.old, seen.new
        if pod is None or pod.finished:
            left = old is not None and not old.finished and (bool(old.spec.node_name) or self._mine(old))
            return tuple(self._parked) if left else ()
        if old is not None and pod.spec.node_name and old.spec.node_name and _resized(old, pod):
            return tuple(self._parked)
        if not pod.spec.node_name:
            return (seen.key,) if self._mine(pod) and not _only_status(seen) else ()
        if old is None or not old.spec.node_name or _counts_differently(old, pod):
            return tuple(self._waiting_for(pod, _namespace_labels(view)))
        return ()

    def _waiting_for(self, pod: Pod, labels_of: NamespaceLabels) -> Iterable[Key]:
        """Parked pods that may fit because this pod is on a node now, or counts otherwise there."""
        for key, parked in self._parked.items():
            terms = parked.terms
            if terms is None:
                continue
            if any(term.concerns(pod, labels_of) for term in (*terms.near, *terms.far)) or (
                parked.namespace == pod.metadata.namespace and any(one.pods.matches(pod.metadata.labels) for one in terms.constraints)
            ):
                yield key

    def _concerned_by_claim(self, view: View, seen: Seen) -> Iterable[Key]:
        """Return the pods that use the claim and have no node yet."""
        return [pod.metadata.key for pod in view.by(PODS, "claim", seen.key) if self._mine(pod)]

    def _concerned_by_volume(self, view: View, seen: Seen) -> Iterable[Key]:
        """Pods that fitted nowhere may wait for a volume or a class like this one."""
        return [key for key in self._parked if (pod := view.get(PODS, key)) is not None and volumes.claim_names(pod)]

    def _mine(self, pod: Pod) -> bool:
        named = pod.spec.scheduler_name in ("", self._settings.name)
        return named and not pod.spec.node_name and pod.active and not pod.spec.scheduling_gates

    # -- a decision --------------------------------------------------------------------------------------------------------------------

    def _look(self, situation: Situation) -> tuple[list[NodeState], list[tuple[NodeState, Refusal]]]:
        """Return the nodes that the pod fits, as many as are worth comparing, and why it does not fit the others.

        A node for which the pod is nominated is taken at once.
        """
        fitting: list[NodeState] = []
        refused: list[tuple[NodeState, Refusal]] = []
        pod = situation.pod
        refuses = partial(self._refuses, situation) if self._cluster.nominations else situation.refuses
        for state in self._cluster.from_turn(self._turn + 1, without=pod.metadata.key):
            refusal = refuses(state)
            if refusal:
                refused.append((state, refusal))
                continue
            if state.name == pod.status.nominated_node_name:
                return [state], refused
            fitting.append(state)
            if len(fitting) >= self._settings.enough_nodes and not pod.status.nominated_node_name:
                break
        return fitting, refused

    def _refuses(self, situation: Situation, state: NodeState) -> Refusal | None:
        """Return why a node refuses the pod. It must take the pod as it is, and also with the pods that are nominated for it and at least as important."""
        refusal = situation.refuses(state)
        nominated = self._cluster.nominated(state.name)
        if refusal or not nominated:
            return refusal
        key, priority = situation.pod.metadata.key, situation.demand.priority
        expected = [one for one in nominated if one.demand.priority >= priority and one.pod.metadata.key != key]
        if not expected:
            return None
        trial, there = situation.copy(), state.copy()
        for placed in expected:
            there.count(placed, +1)
            trial.change(placed, there, +1)
        return trial.refuses(there)

    def _refuse(self, view: View, situation: Situation, refused: Sequence[tuple[NodeState, Refusal]]) -> Plan:
        pod = situation.pod
        message = sentence(len(self._cluster), (refusal for _, refusal in refused))
        if not refused:
            return self._park(view, pod, message, "")
        answer = preempt(view, situation, refused, self._cluster, self._refuses)
        if isinstance(answer, Candidate):
            parking = self._park(view, pod, message, answer.state.name)
            return Plan([*self._preempt(view, pod, answer), *parking.actions], parking.again_s)
        keeps = pod.status.nominated_node_name if "not eligible" in answer else ""
        if situation.demand.devices:
            answer = f"still not schedulable, {answer}"  # as the plugin of devices says, which looks for claims to free first
        return self._park(view, pod, f"{message} {answer}", keeps)

    def _refuse_everywhere(self, view: View, pod: Pod, problem: str) -> Plan:
        """Refuse the pod for a reason that has nothing to do with any node."""
        nodes = len(self._cluster)
        message = f"0/{nodes} nodes are available: {problem}."
        return self._park(view, pod, f"{message} preemption: {sentence(nodes, [NO_HELP] * nodes)}" if nodes else message, "")

    def _preempt(self, view: View, pod: Pod, chosen: Candidate) -> Iterable[Action]:
        """Victims are told and leave in order, with their own grace; pods that waited for this node and are less important look for another."""
        node, priority = chosen.state.name, pod.spec.priority or 0
        for victim in chosen.victims:
            yield from self._end(view, victim, pod, node)
        for waiting in self._cluster.nominated(node):
            if waiting.demand.priority < priority:
                why = f"{pod.metadata.key}, which is more important, gets the room on {node}"
                yield Patch(PODS, waiting.pod.metadata.key, {"status": {"nominatedNodeName": None}}, "status", why=why)

    def _end(self, view: View, victim: Placed, pod: Pod, node: str) -> Iterable[Action]:
        key, uid = victim.pod.metadata.key, victim.pod.metadata.uid
        message = f"{self.name}: preempting to accommodate a higher priority pod"
        conditions = disrupted(view.raw(PODS, key) or {}, BY_SCHEDULER, message, rfc3339(view.wall()))
        yield Patch(PODS, key, {"status": {"conditions": conditions}}, "status", victim.pod.metadata.revision)
        event = Record(PODS, key, "Preempted", f"Preempted by pod {pod.metadata.uid} on node {node}")
        why = f"preempted by {pod.metadata.key}, whose priority is {pod.spec.priority or 0}, to make room on {node}"
        yield Delete(PODS, key, uid, why=why, event=event)

    def _park(self, view: View, pod: Pod, message: str, nominated: str) -> Plan:
        key = pod.metadata.key
        told = condition(pod.status.conditions, "PodScheduled")
        if told and told.status == "False" and told.message == message and pod.status.nominated_node_name == nominated:
            return Plan(again_s=self._settings.flush_s)  # said already
        status: dict[str, Any] = {"conditions": _with(view, key, _unscheduled(pod, message, view.wall()))}
        if pod.status.nominated_node_name != nominated:
            status["nominatedNodeName"] = nominated or None
        event = Record(PODS, key, "FailedScheduling", message, "Warning")
        return Plan([Patch(PODS, key, {"status": status}, "status", pod.metadata.revision, message, event)], self._settings.flush_s)


def _namespace_labels(view: View) -> NamespaceLabels:
    def labels_of(name: str) -> Mapping[str, str]:
        namespace = view.get(_NAMESPACES, name)
        return namespace.metadata.labels if namespace is not None else {}

    return labels_of


def _chosen(plan: Plan) -> str:
    """Return the node on which the pod counts after the plan, though it may not be bound yet."""
    if isinstance(plan, volumes.WaitsForVolumes):
        return plan.node
    return next((action.node for action in plan.actions if isinstance(action, Bind)), "")


def _nomination(plan: Plan, key: Key, before: str) -> str:
    """Return the node for which the pod is nominated after the plan."""
    for action in plan.actions:
        if isinstance(action, Patch) and action.key == key and "nominatedNodeName" in action.patch["status"]:
            return action.patch["status"]["nominatedNodeName"] or ""
    return before


def _counts_differently(old: Pod, new: Pod) -> bool:
    """Tell whether other pods' decisions may depend on what changed of a placed pod."""
    return old.active != new.active or old.metadata.labels != new.metadata.labels or _resized(old, new)


def _resized(old: Pod, new: Pod) -> bool:
    """Tell whether it asks for more or less than before, in place."""
    return _resources(old) != _resources(new)


def _resources(pod: Pod) -> list[Any]:
    return [each.resources for each in (*pod.spec.containers, *pod.spec.init_containers)]


def _only_status(seen: Seen) -> bool:
    """Tell whether only the status of a waiting pod changed, which can't change the decision."""
    return seen.old is not None and seen.old.spec == seen.new.spec and seen.old.metadata.labels == seen.new.metadata.labels


def _offer(node: Node) -> tuple[Any, ...]:
    """Return the fields of a node that can change a decision."""
    status = node.status
    offered = status.allocatable, status.capacity, status.declared_features
    return node.ready, node.spec.unschedulable, node.spec.taints, node.metadata.labels, *offered


def _unscheduled(pod: Pod, message: str, wall_s: float) -> dict[str, Any]:
    observed = {"observedGeneration": pod.metadata.generation} if pod.metadata.generation else {}
    return {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": rfc3339(wall_s),
        **observed,
    }


def _with(view: View, key: Key, told: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a pod's conditions with this one in the place of the one with its type."""
    whole = view.raw(PODS, key) or {}
    return with_condition(whole.get("status", {}).get("conditions", ()), told)
