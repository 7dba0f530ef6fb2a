"""Deletes what has no owner and is not needed: pods and leases of deleted nodes, finished pods beyond a number, and Events after an hour.

Keys are `node/NAME` for a deleted node, `finished`, and `events`. What only expires is looked at from time to time, and deleted in bounded
portions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from random import Random

from labctl.clock import rfc3339
from labctl.controllers.indexes import EVENTS, LEASES, NODES, PODS, PODS_BY_NODE
from labctl.controllers.peers import LEASE_NAMESPACE
from labctl.controllers.settings import ControllerSettings
from labctl.reconcile.plan import NOTHING, Action, Delete, Index, Key, Patch, Plan, Seen, View
from labctl.resources.disruption import BY_GARBAGE_COLLECTOR, disrupted
from labctl.resources.kinds.core_v1.event import Event
from labctl.resources.kinds.core_v1.pod_view import Pod

AT_ONCE = 200  # the most deletions in one plan
FINISHED = "finished"


def _finished(pod: Pod) -> Iterable[str]:
    return (FINISHED,) if pod.finished else ()


def _about(event: Event) -> Iterable[str]:
    return (event.involved_object.uid,) if event.involved_object.uid else ()


class Leftovers:
    """The controller that the module's docstring describes."""

    name = "pod-garbage-collector"
    kind = "leftovers"

    def __init__(self, settings: ControllerSettings = ControllerSettings()) -> None:  # noqa: B008 - frozen
        self._settings = settings
        self._gone: dict[str, float] = {}  # missing nodes that pods name, and since when they are missing
        self._sweeping = False  # whether Events are looked at regularly, which begins with the first one
        self.watches = {NODES: self._node, PODS: self._pod, EVENTS: self._event}
        self.indexes: Mapping[tuple[str, str], Index] = {**PODS_BY_NODE, (PODS, FINISHED): _finished, (EVENTS, "about"): _about}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        if key == "events":
            return self._events(view)
        if key == FINISHED:
            return self._finished(view)
        return self._node_gone(view, key.removeprefix("node/"), now)

    def _node(self, _view: View, seen: Seen) -> Iterable[Key]:
        return (f"node/{seen.key}",) if seen.new is None or seen.key in self._gone else ()

    def _pod(self, view: View, seen: Seen) -> Iterable[Key]:
        if seen.new is None:
            return
        name = seen.new.spec.node_name
        if name and view.get(NODES, name) is None:
            yield f"node/{name}"
        if seen.new.finished and view.count(PODS, FINISHED, FINISHED) > self._settings.finished_pods:
            yield FINISHED

    def _event(self, _view: View, _seen: Seen) -> Iterable[Key]:
        first, self._sweeping = not self._sweeping, True
        return ("events",) if first else ()

    def _node_gone(self, view: View, name: str, now: float) -> Plan:
        """Delete a missing node's pods, but only after a while, because a living agent may register its node again."""
        pods = view.by(PODS, "node", name)
        lease = view.get(LEASES, f"{LEASE_NAMESPACE}/{name}")
        if view.get(NODES, name) is not None or not (pods or lease):
            self._gone.pop(name, None)
            return NOTHING
        left_s = self._settings.gone_node_s - (now - self._gone.setdefault(name, now))
        if left_s > 0:
            return Plan(again_s=left_s)
        why = f"deleted because its node {name} is gone"
        actions = [action for pod in pods[:AT_ONCE] for action in _orphan(view, pod, why)]
        if lease is not None and not pods[AT_ONCE:]:
            actions.append(Delete(LEASES, lease.metadata.key, lease.metadata.uid))
        return Plan(actions, again_s=self._settings.sweep_s)

    def _finished(self, view: View) -> Plan:
        """Delete finished pods above the limit, the oldest first."""
        finished = [pod for pod in view.by(PODS, FINISHED, FINISHED) if not pod.metadata.deletion_timestamp]
        surplus = len(finished) - self._settings.finished_pods
        if surplus <= 0:
            return NOTHING
        finished.sort(key=lambda pod: (pod.metadata.creation_timestamp or "", pod.metadata.key))
        why = f"deleted because more than {self._settings.finished_pods} finished pods are kept"
        return Plan([Delete(PODS, pod.metadata.key, pod.metadata.uid, grace_s=0, why=why) for pod in finished[: min(surplus, AT_ONCE)]])

    def _events(self, view: View) -> Plan:
        oldest = rfc3339(view.wall() - self._settings.event_ttl_s)
        expired = [event for event in view.all(EVENTS) if _told_at(event) < oldest]
        actions = [Delete(EVENTS, event.metadata.key, event.metadata.uid) for event in expired[:AT_ONCE]]
        return Plan(actions, again_s=self._settings.sweep_s if len(expired) <= AT_ONCE else 0.0)


def _orphan(view: View, pod: Pod, why: str) -> Iterator[Action]:
    """Yield what ends a pod whose node is gone. No agent will report its end any more, so it is said here."""
    if not pod.finished:
        whole = view.raw(PODS, pod.metadata.key) or {}
        conditions = disrupted(whole, BY_GARBAGE_COLLECTOR, "PodGC: node no longer exists", rfc3339(view.wall()))
        yield Patch(PODS, pod.metadata.key, {"status": {"phase": "Failed", "conditions": conditions}}, "status", pod.metadata.revision, why)
    yield Delete(PODS, pod.metadata.key, pod.metadata.uid, grace_s=0, why=why)


def _told_at(event: Event) -> str:
    """Return when the Event was last reported, by its writer's clock, and at least when it was made: its writer may tell of what is long past.

    RFC 3339 times compare as text. One without a time never expires here.
    """
    last = event.series.last_observed_time if event.series else ""
    return max(event.last_timestamp, event.event_time, last, event.metadata.creation_timestamp or "") or "never"
