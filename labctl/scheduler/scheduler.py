"""The scheduler decides for one pod at a time. It writes a Binding, or the reason why there is none.

It is a controller like the others (key: a pod that has no node yet), planned in the order in which pods were created. As an observer it keeps a picture of
the nodes (cluster.py) up to date, which `plan` only reads. A decided pod counts at once (`decided`), so the next decision needs not wait for the binding to be seen.
A pod that fits nowhere is parked with the reason on its PodScheduled condition, and woken when a node changes or a pod leaves one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any

import msgspec

from labctl.clock import rfc3339
from labctl.reconcile.plan import NOTHING, Bind, Index, Key, Patch, Plan, Record, Seen, View
from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.shared import condition
from labctl.resources.plurals import CLAIMS, NODES, PODS, STORAGE_CLASSES, VOLUMES
from labctl.scheduler import volumes
from labctl.scheduler.cluster import Cluster, NodeState
from labctl.scheduler.demand import Demand, demand_of
from labctl.scheduler.filters import refusals, sentence
from labctl.scheduler.scores import best
from labctl.scheduler.settings import SchedulerSettings


class _Parked(msgspec.Struct):
    """A pod that fitted nowhere."""

    attempts: int
    not_before: float  # monotonic


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

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        pod: Pod | None = view.get(PODS, key)
        if pod is None or not self._mine(pod):
            return NOTHING
        parked = self._parked.get(key)
        if parked and now < parked.not_before:
            return Plan(again_s=parked.not_before - now)
        demand = demand_of(pod)
        wanted = volumes.of_pod(view, pod)
        if wanted.problem:
            return self._park(view, pod, now, f"0/{len(self._cluster)} nodes are available: {wanted.problem}.")
        fitting, reasons = self._look(pod, demand, wanted)
        if not fitting:
            return self._park(view, pod, now, sentence(len(self._cluster), reasons))
        chosen, why = best(demand, fitting, rng)
        if not wanted.complete:
            assert chosen.node is not None
            return volumes.prepare(wanted, chosen.node, why)
        event = Record(PODS, key, "Scheduled", f"Successfully assigned {key} to {chosen.name}")
        return Plan([Bind(key, chosen.name, pod.metadata.uid, why, event)])

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
        binding = next((action for action in plan.actions if isinstance(action, Bind)), None)
        if binding is not None:
            self._parked.pop(key, None)
            self._cluster.place(key, binding.node, demand_of(pod))
            return
        if isinstance(plan, volumes.WaitsForVolumes):
            self._parked.pop(key, None)
            self._cluster.place(key, plan.node, demand_of(pod))
            return
        self._cluster.lift(key)
        attempts = parked.attempts + 1 if parked else 1
        backoff_s = min(self._settings.backoff_max_s, self._settings.backoff_min_s * 2 ** min(attempts - 1, 30))
        self._parked[key] = _Parked(attempts, now + backoff_s)

    def _node_seen(self, change: Seen) -> None:
        if change.new is None:
            self._cluster.drop_node(change.key)
        elif change.old is None or _offer(change.old) != _offer(change.new):
            self._cluster.set_node(change.new)

    def _pod_seen(self, change: Seen) -> None:
        pod: Pod | None = change.new
        if pod is None or pod.finished:
            self._cluster.lift(change.key)
        elif pod.spec.node_name:
            begins_to_leave = change.old is not None and change.old.active and not pod.active
            if self._cluster.where(change.key) != pod.spec.node_name or begins_to_leave:
                self._cluster.place(change.key, pod.spec.node_name, demand_of(pod))
        if pod is None or (pod.spec.node_name and not pod.finished):
            self._parked.pop(change.key, None)

    # -- what a change concerns --------------------------------------------------------------------------------------------------------

    def _freed_by_node(self, _view: View, seen: Seen) -> Iterable[Key]:
        """A node that offers something else may take pods that fitted nowhere."""
        changed = seen.new is not None and (seen.old is None or _offer(seen.old) != _offer(seen.new))
        return tuple(self._parked) if changed else ()

    def _concerned_by_pod(self, _view: View, seen: Seen) -> Iterable[Key]:
        """A pod that waits for a node; or, when one left its place, all those that fitted nowhere."""
        old, pod = seen.old, seen.new
        if pod is None or pod.finished:
            left = old is not None and not old.finished and (bool(old.spec.node_name) or self._mine(old))
            return tuple(self._parked) if left else ()
        if pod.spec.node_name:
            return ()
        return (seen.key,) if self._mine(pod) and not _only_status(seen) else ()

    def _concerned_by_claim(self, view: View, seen: Seen) -> Iterable[Key]:
        """The pods that use the claim and have no node yet."""
        return [pod.metadata.key for pod in view.by(PODS, "claim", seen.key) if self._mine(pod)]

    def _concerned_by_volume(self, view: View, seen: Seen) -> Iterable[Key]:
        """Pods that fitted nowhere may wait for a volume or a class like this one."""
        return [key for key in self._parked if (pod := view.get(PODS, key)) is not None and volumes.claim_names(pod)]

    def _mine(self, pod: Pod) -> bool:
        named = pod.spec.scheduler_name in ("", self._settings.name)
        return named and not pod.spec.node_name and pod.active

    # -- a decision --------------------------------------------------------------------------------------------------------------------

    def _look(self, pod: Pod, demand: Demand, wanted: volumes.PodVolumes) -> tuple[list[NodeState], Counter[str]]:
        """The nodes that the pod fits, as many as are worth comparing, and the reasons that the other nodes gave."""
        fitting: list[NodeState] = []
        reasons: Counter[str] = Counter()
        for state in self._cluster.from_turn(self._turn + 1, without=pod.metadata.key):
            refused = refusals(pod, demand, state, wanted)
            if refused:
                reasons.update(refused)
                continue
            fitting.append(state)
            if len(fitting) >= self._settings.enough_nodes:
                break
        return fitting, reasons

    def _park(self, view: View, pod: Pod, now: float, message: str) -> Plan:
        key = pod.metadata.key
        told = condition(pod.status.conditions, "PodScheduled")
        if told and told.status == "False" and told.message == message:
            return Plan(again_s=self._settings.flush_s)  # said already
        conditions = [*(_plain(c) for c in pod.status.conditions if c.type != "PodScheduled"), _unscheduled(message, view.wall())]
        event = Record(PODS, key, "FailedScheduling", message, "Warning")
        patch = {"status": {"conditions": conditions}}
        return Plan([Patch(PODS, key, patch, "status", pod.metadata.revision, message, event)], self._settings.flush_s)


def _only_status(seen: Seen) -> bool:
    """Whether only the status of a waiting pod changed, which can't change the decision."""
    return seen.old is not None and seen.old.spec == seen.new.spec and seen.old.metadata.labels == seen.new.metadata.labels


def _offer(node: Node) -> tuple[Any, ...]:
    """The fields of a node that can change a decision."""
    status = node.status
    return node.ready, node.spec.unschedulable, node.spec.taints, node.metadata.labels, status.allocatable, status.capacity


def _unscheduled(message: str, wall_s: float) -> dict[str, Any]:
    return {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": rfc3339(wall_s),
    }


def _plain(view: Any) -> dict[str, Any]:
    return {key: value for key, value in msgspec.to_builtins(view).items() if value != ""}
