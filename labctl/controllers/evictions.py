"""Evictions: pods leave nodes whose NoExecute taints they don't tolerate, at once or when their tolerationSeconds have passed.

A pod without tolerations for not-ready and unreachable nodes tolerates them for the default time. On a node that is out of service nothing
can run any more
(that is the taint's meaning), so its pods are removed at once and without grace, and their replacements may start safely.
How long a taint has lasted counts from when this process saw it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import inf
from random import Random
from typing import Any

from labctl.clock import rfc3339
from labctl.controllers.indexes import MACHINES, NODES, PODS, PODS_BY_NODE
from labctl.controllers.nodes import cause_of, death_of
from labctl.controllers.nodetaints import BOOT
from labctl.controllers.settings import ControllerSettings
from labctl.reconcile.plan import NOTHING, Action, Delete, Index, Key, Patch, Plan, Record, Seen, View
from labctl.resources.disruption import BY_TAINTS, disrupted
from labctl.resources.kinds.core_v1.node import Node, Taint
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.taints import NOT_READY, OUT_OF_SERVICE, UNREACHABLE
from labctl.resources.tolerations import tolerates


def _taints(node: Node) -> Iterable[str]:
    return [_value(taint) for taint in node.spec.taints if taint.effect == "NoExecute"]


def _value(taint: Taint) -> str:
    return f"{taint.key}={taint.value}"


class Evictions:
    """The controller that the module's docstring describes."""

    name = "taint-eviction-controller"
    kind = NODES

    def __init__(self, settings: ControllerSettings = ControllerSettings()) -> None:  # noqa: B008 - frozen
        self._default_s = settings.eviction_s
        self.watches = {NODES: _tainted, PODS: _on_tainted}
        self.indexes: Mapping[tuple[str, str], Index] = {**PODS_BY_NODE, (NODES, "taint"): _taints}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        node: Node | None = view.get(NODES, key)
        taints = [taint for taint in node.spec.taints if taint.effect == "NoExecute"] if node else []
        if node is None or not taints:
            return NOTHING
        actions: list[Action] = []
        waits: list[float] = []
        for pod in view.by(PODS, "node", key):
            if _fenced(pod, node):
                actions += _remove(view, pod, node)
            elif pod.active:
                left_s, taint = min(((self._left_s(view, node, pod, taint, now), taint) for taint in taints), key=lambda item: item[0])
                if left_s <= 0:
                    actions += _evict(view, pod, taint)
                elif left_s < inf:
                    waits.append(left_s)
        return Plan(actions, min(waits, default=None))

    def _left_s(self, view: View, node: Node, pod: Pod, taint: Taint, now: float) -> float:
        """Return how many seconds this pod still tolerates this taint."""
        tolerated_s = self._tolerated_s(pod, taint)
        return tolerated_s - (now - view.since(NODES, "taint", _value(taint), node.metadata.name)) if 0 < tolerated_s < inf else tolerated_s

    def _tolerated_s(self, pod: Pod, taint: Taint) -> float:
        matching = [toleration for toleration in pod.spec.tolerations if tolerates(toleration, taint)]
        if matching:
            return min(inf if t.toleration_seconds is None else max(0, t.toleration_seconds) for t in matching)
        return self._default_s if taint.key in (NOT_READY, UNREACHABLE) else 0


def _tainted(_view: View, seen: Seen) -> Iterable[Key]:
    """Yield the node, if it has a NoExecute taint."""
    return (seen.key,) if seen.new is not None and any(True for _ in _taints(seen.new)) else ()


def _on_tainted(view: View, seen: Seen) -> Iterable[Key]:
    """Yield the pod's node, if it has taints."""
    name = seen.new.spec.node_name if seen.new is not None else ""
    node = view.get(NODES, name) if name else None
    return (name,) if node is not None and node.spec.taints else ()


def _fenced(pod: Pod, node: Node) -> bool:
    """Tell whether nothing of this pod can run any more. A fence that a person set counts once the node is not ready (KEP-2268)."""
    for taint in node.spec.taints:
        if taint.key == OUT_OF_SERVICE and taint.effect == "NoExecute" and (taint.value.startswith(BOOT) or not node.ready):
            return not any(tolerates(toleration, taint) for toleration in pod.spec.tolerations if toleration.key)
    return False


def _remove(view: View, pod: Pod, node: Node) -> Iterator[Action]:
    """Yield what ends a pod whose node is certainly off. Nobody else will say that it failed; a pod that was leaving already is no disruption."""
    name = node.metadata.name
    why = f"killed with its node: {name} is out of service"
    if death := death_of(view.get(MACHINES, name), node):
        why += f", because {cause_of(death)}"
    if not pod.finished:
        leaves = pod.metadata.deletion_timestamp is not None
        status = {"phase": "Failed", **({} if leaves else {"conditions": _conditions(view, pod)})}
        yield Patch(PODS, pod.metadata.key, {"status": status}, "status", pod.metadata.revision, why)  # it is replaced because of this
    event = Record(PODS, pod.metadata.key, "TaintManagerEviction", f"Deleting Pod {pod.metadata.key}: node {name} is out of service")
    yield Delete(PODS, pod.metadata.key, pod.metadata.uid, grace_s=0, why=why, event=event)


def _conditions(view: View, pod: Pod) -> list[dict[str, Any]]:
    whole = view.raw(PODS, pod.metadata.key) or {}
    return disrupted(whole, BY_TAINTS, "Taint manager: deleting due to NoExecute taint", rfc3339(view.wall()))


def _evict(view: View, pod: Pod, taint: Taint) -> Iterator[Action]:
    """Yield what ends a pod, after its status says that it is no failure of its own (KEP-3329)."""
    yield Patch(PODS, pod.metadata.key, {"status": {"conditions": _conditions(view, pod)}}, "status", pod.metadata.revision)
    why = f"evicted from {pod.spec.node_name}: it does not tolerate {taint.key} any longer"
    event = Record(PODS, pod.metadata.key, "TaintManagerEviction", f"Marking for deletion Pod {pod.metadata.key}")
    yield Delete(PODS, pod.metadata.key, pod.metadata.uid, why=why, event=event)
