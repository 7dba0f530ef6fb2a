"""The scheduler: one pod, one decision. It writes a Binding, or the reason why there is none.

It is a controller like the others (key: a pod that has no node yet), planned in the order in which pods were created. What it knows of nodes is in
cluster.py, fed by the same changes that wake it; a decided pod counts at once, so the next decision needs not wait for the binding to be seen.
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
from labctl.scheduler.cluster import Cluster, NodeState
from labctl.scheduler.demand import Demand, demand_of
from labctl.scheduler.filters import refusals, sentence
from labctl.scheduler.scores import best
from labctl.scheduler.settings import SchedulerSettings

PODS, NODES = "pods", "nodes"


class _Parked(msgspec.Struct):
    """A pod that fitted nowhere."""

    attempts: int
    not_before: float  # monotonic


class Scheduler:
    kind = PODS

    def __init__(self, settings: SchedulerSettings = SchedulerSettings()) -> None:  # noqa: B008 - frozen
        self.name = settings.name
        self._settings = settings
        self._cluster = Cluster()
        self._parked: dict[Key, _Parked] = {}
        self._turn = 0
        self.watches: Mapping[str, Callable[[View, Seen], Iterable[Key]]] = {NODES: self._node_seen, PODS: self._pod_seen}
        self.indexes: Mapping[tuple[str, str], Index] = {}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        pod: Pod | None = view.get(PODS, key)
        if pod is None or not self._mine(pod):
            self._parked.pop(key, None)
            return NOTHING
        parked = self._parked.get(key)
        if parked and now < parked.not_before:
            return Plan(again_s=parked.not_before - now)
        self._cluster.lift(key)  # decided before, but the binding came to nothing
        demand = demand_of(pod)
        fitting, reasons = self._look(pod, demand)
        if not fitting:
            return self._park(view, pod, now, sentence(len(self._cluster), reasons))
        self._parked.pop(key, None)
        chosen, why = best(demand, fitting, rng)
        self._cluster.place(key, chosen.name, demand)
        event = Record(PODS, key, "Scheduled", f"Successfully assigned {key} to {chosen.name}")
        return Plan([Bind(key, chosen.name, pod.metadata.uid, why, event)])

    # -- what changed ------------------------------------------------------------------------------------------------------------------

    def _node_seen(self, _view: View, seen: Seen) -> Iterable[Key]:
        if seen.new is None:
            self._cluster.drop_node(seen.key)
            return ()
        if seen.old is not None and _offer(seen.old) == _offer(seen.new):
            return ()
        self._cluster.set_node(seen.new)
        return tuple(self._parked)

    def _pod_seen(self, _view: View, seen: Seen) -> Iterable[Key]:
        pod: Pod | None = seen.new
        if pod is None:
            self._parked.pop(seen.key, None)
        if pod is None or pod.finished:
            return tuple(self._parked) if self._cluster.lift(seen.key) else ()
        if not pod.spec.node_name:
            return (seen.key,) if self._mine(pod) and not _only_status(seen) else ()
        begins_to_leave = seen.old is not None and seen.old.active and not pod.active
        if self._cluster.where(seen.key) != pod.spec.node_name or begins_to_leave:
            self._cluster.place(seen.key, pod.spec.node_name, demand_of(pod))
        self._parked.pop(seen.key, None)
        return ()

    def _mine(self, pod: Pod) -> bool:
        named = pod.spec.scheduler_name in ("", self._settings.name)
        return named and not pod.spec.node_name and pod.active

    # -- a decision --------------------------------------------------------------------------------------------------------------------

    def _look(self, pod: Pod, demand: Demand) -> tuple[list[NodeState], Counter[str]]:
        """Nodes it fits, as many as are worth comparing, and why not the others."""
        fitting: list[NodeState] = []
        reasons: Counter[str] = Counter()
        self._turn += 1
        for state in self._cluster.from_turn(self._turn):
            refused = refusals(pod, demand, state)
            if refused:
                reasons.update(refused)
                continue
            fitting.append(state)
            if len(fitting) >= self._settings.enough_nodes:
                break
        return fitting, reasons

    def _park(self, view: View, pod: Pod, now: float, message: str) -> Plan:
        key = pod.metadata.key
        attempts = self._parked[key].attempts + 1 if key in self._parked else 1
        backoff_s = min(self._settings.backoff_max_s, self._settings.backoff_min_s * 2 ** min(attempts - 1, 30))
        self._parked[key] = _Parked(attempts, now + backoff_s)
        told = condition(pod.status.conditions, "PodScheduled")
        if told and told.status == "False" and told.message == message:
            return Plan(again_s=self._settings.flush_s)  # said already
        conditions = [*(_plain(c) for c in pod.status.conditions if c.type != "PodScheduled"), _unscheduled(message, view.wall())]
        event = Record(PODS, key, "FailedScheduling", message, "Warning")
        patch = {"status": {"conditions": conditions}}
        return Plan([Patch(PODS, key, patch, "status", pod.metadata.revision, message, event)], self._settings.flush_s)


def _only_status(seen: Seen) -> bool:
    """What changed of a pod that waits does not change the answer."""
    return seen.old is not None and seen.old.spec == seen.new.spec and seen.old.metadata.labels == seen.new.metadata.labels


def _offer(node: Node) -> tuple[Any, ...]:
    """What of a node can change a decision."""
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
