"""Resizing in place (KEP-1287, KEP-5419): what a running pod and its containers were given, and the way to what its spec asks for now.

    the spec asks for more or less ─► does it fit here? ─► allocated ─► the machine's limits are changed, or the container is restarted
                                      no: PodResizePending              PodResizeInProgress until then

Used by the pod's worker. What was allocated stands in the pod's status, so an agent that was killed learns it there; the limits that hold stand in the
containers' records.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Set, Tuple

from . import containers, quantities
from .events import of_pod
from .runtime.interface import Container, Limits, Pod, RuntimeFailure, State
from .status import RESIZING, is_sidecar
from .tools import Tools

Object = Dict[str, Any]
PENDING, IN_PROGRESS = RESIZING
RETRY_S = 2.0
_POD = ""
"""Stands beside the containers' names for the pod itself, if it has resources of its own."""
_RESIZABLE = ("cpu", "memory")
_MESSAGE_MOST = 1000
Stop = Callable[[Object, Container, str], None]


class Resizing:
    """Of one pod. `pod` answers what the API says now; `look_again` is asked for a later look."""

    def __init__(self, tools: Tools, pod: Callable[[], Object], look_again: Callable[[float], None]) -> None:
        self._tools, self._pod, self._look_again = tools, pod, look_again
        self._allocated: Dict[str, Object] = {}
        self._pending: Optional[Tuple[str, str]] = None
        self._error = ""
        self._under_way = False
        self._begun = False  # an Event said that a resize began, and none yet that it is complete
        self._bounds: Optional[Limits] = None  # of the whole pod, as this agent made them hold
        self.restarting: Set[str] = set()  # ids of containers that end to begin again with other resources

    def given(self) -> Object:
        """Returns the pod with the resources that its containers were given, in place of those that they ask for."""
        pod = self._pod()
        if all(self._of(each) is (each.get("resources") or {}) for each in _asking(pod)):
            return pod
        spec = dict(pod["spec"])
        if spec.get("resources"):
            spec["resources"] = self._of(_itself(pod))
        for part in ("containers", "initContainers"):
            if spec.get(part):
                spec[part] = [{**each, "resources": self._of(each)} if each["name"] in self._allocated else each for each in spec[part]]
        return {**pod, "spec": spec}

    def _of(self, container: Object) -> Object:
        asked: Object = container.get("resources") or {}
        had = self._allocated.get(container["name"], asked)
        return asked if had == asked else had

    def decide(self) -> None:
        """Gives the containers what they ask for, if it fits on this machine beside the other pods; else notes why not."""
        pod = self._pod()
        for each in _asking(pod):
            self._allocated.setdefault(each["name"], _told(pod, each["name"]) or each.get("resources") or {})
        wanted = {each["name"]: each.get("resources") or {} for each in _asking(pod)}
        before = self._pending
        self._pending = self._refusal(wanted) if any(wanted[name] != self._allocated[name] for name in wanted) else None
        if self._pending is None:
            self._allocated.update(wanted)
        else:
            self._look_again(RETRY_S)
        if self._pending and self._pending != before:
            self._say(pod, "Warning", *self._pending)
        self._tools.taken[pod["metadata"]["uid"]] = _total(self._allocated)

    def forget(self) -> None:
        """The pod needs nothing of this machine any more."""
        self._tools.taken.pop(self._pod()["metadata"]["uid"], None)

    def _refusal(self, wanted: Mapping[str, Object]) -> Optional[Tuple[str, str]]:
        """Why what grows does not fit, in the kubelet's words: Infeasible if it never will here, Deferred if other pods are in the way."""
        uid = self._pod()["metadata"]["uid"]
        asked, had = _total(wanted), _total(self._allocated)
        for name in _RESIZABLE:
            text = self._tools.allocatable.get(name)
            if text is None or asked[name] <= had[name]:
                continue
            capacity = amount(name, text)
            others = sum(taken[name] for other, taken in self._tools.taken.items() if other != uid)
            if asked[name] > capacity:
                return "Infeasible", f"Node didn't have enough capacity: {name}, requested: {asked[name]}, capacity: {capacity}"
            if asked[name] + others > capacity:
                words = f"Node didn't have enough resource: {name}, requested: {asked[name]}, used: {others}, capacity: {capacity}"
                return "Deferred", words
        return None

    async def apply(self, found: Pod, stop: Stop) -> None:
        """Makes the machine hold what was allocated. `stop` ends a container that can take it only by a restart."""
        pod, changes, failed = self.given(), {}, self._error
        self._under_way, self._error = False, ""
        for spec in _resizable(pod):
            latest, wanted = found.latest(spec["name"]), containers.limits(pod, spec)
            if latest is None or latest.state is not State.RUNNING or latest.limits == wanted:
                continue
            self._under_way = True
            if not _needs_restart(spec, latest.limits, wanted):
                changes[latest.id] = wanted
            elif latest.id not in self.restarting:
                self.restarting.add(latest.id)
                stop(spec, latest, f"Container {spec['name']} resize requires restart")
        self.restarting &= {each.id for each in found.containers}
        bounds = containers.pod_limits(pod)
        if not changes and (bounds == self._bounds or not pod["spec"].get("resources") or not found.containers):
            self._say_how_far(pod)
            return
        self._under_way |= self._bounds not in (None, bounds)
        self._say_how_far(pod)
        try:
            await self._tools.runtime.resize(found.uid, bounds, changes)
            self._under_way, self._bounds = bool(self.restarting), bounds
            self._say_how_far(pod)
        except RuntimeFailure as failure:
            self._error = str(failure)
            self._look_again(RETRY_S)
            if self._error != failed:
                self._say(pod, "Warning", "Error", self._error)

    # -- what is told

    def _say_how_far(self, pod: Object) -> None:
        """Records an Event when a resize begins, and when it is complete."""
        if self._under_way != self._begun:
            self._begun = self._under_way
            self._say(pod, "Normal", "Started" if self._begun else "Completed")

    def _say(self, pod: Object, type_: str, what: str, error: str = "") -> None:
        """Records an Event about a resize, in a kubelet's words: the resources of all containers, which they ask for or were given."""
        summary: Object = {}
        for part in ("initContainers", "containers"):
            each = [{"name": c["name"], "resources": _in_order(c.get("resources") or {})} for c in pod["spec"].get(part) or ()]
            summary.update({part: each} if each else {})
        summary["generation"] = pod["metadata"].get("generation", 0)
        summary.update({"error": error} if error else {})
        words = what if what in ("Deferred", "Infeasible") else what.lower()
        told = json.dumps(summary, separators=(",", ":"))
        self._tools.events.record(of_pod(pod), type_, f"Resize{what}", f"Pod resize {words}: {told}"[:_MESSAGE_MOST])

    def conditions(self) -> List[Tuple[str, str, str]]:
        """Type, reason and message of the conditions that are true now."""
        told = [(PENDING, *self._pending)] if self._pending else []
        return [*told, (IN_PROGRESS, "Error" if self._error else "", self._error)] if self._under_way else told

    def statuses(self, found: Pod) -> Dict[str, Object]:
        """For each container: `allocatedResources`, and `resources` as they hold on the machine."""
        return {name: fields for name, fields in self._statuses(found) if fields}  # the pod's own under ""

    def _statuses(self, found: Pod) -> Iterator[Tuple[str, Object]]:
        pod = self.given()
        for spec in _resizable(pod):
            given, latest = spec.get("resources") or {}, found.latest(spec["name"])
            fields: Object = {"allocatedResources": given["requests"]} if given.get("requests") else {}
            holds = latest is None or latest.state is not State.RUNNING or latest.limits == containers.limits(pod, spec)
            actual = given if holds else (_reported(pod, spec["name"]).get("resources") or given)
            if actual:
                fields["resources"] = {key: value for key, value in actual.items() if key in ("limits", "requests")}
            yield spec["name"], fields
        own = pod["spec"].get("resources")
        if own:
            holds = self._bounds is None or self._bounds == containers.pod_limits(pod)
            actual = own if holds else ((pod.get("status") or {}).get("resources") or own)
            yield _POD, {"allocatedResources": own.get("requests") or {}, "resources": actual}


def _in_order(resources: Object) -> Object:
    """Returns the resources with their names in the order in which Go writes them."""
    return {part: dict(sorted(resources[part].items())) for part in ("limits", "requests") if resources.get(part)}


def _itself(pod: Object) -> Object:
    return {"name": _POD, "resources": pod["spec"].get("resources")}


def _asking(pod: Object) -> List[Object]:
    """All that may be resized: containers, sidecars, and the pod itself if it has resources of its own."""
    return [*_resizable(pod), *([_itself(pod)] if pod["spec"].get("resources") else ())]


def _resizable(pod: Object) -> List[Object]:
    return [*pod["spec"]["containers"], *(each for each in pod["spec"].get("initContainers") or () if is_sidecar(each))]


def _reported(pod: Object, name: str) -> Object:
    status = pod.get("status") or {}
    every = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    return next((each for each in every if each["name"] == name), {})


def _told(pod: Object, name: str) -> Optional[Object]:
    """What an agent before this one gave the container, or the pod itself, as far as the status says."""
    said = _reported(pod, name) if name else (pod.get("status") or {})
    if not said.get("allocatedResources"):
        return None
    return {**(said.get("resources") or {}), "requests": said["allocatedResources"]}


def _needs_restart(spec: Object, now: Limits, wanted: Limits) -> bool:
    changed = {"memory": now.memory_limit_bytes != wanted.memory_limit_bytes}
    changed["cpu"] = (now.cpu_shares, now.cpu_quota_us) != (wanted.cpu_shares, wanted.cpu_quota_us)
    policies = {each["resourceName"]: each["restartPolicy"] for each in spec.get("resizePolicy") or ()}
    return any(changed[name] and policies.get(name) == "RestartContainer" for name in _RESIZABLE)


def _total(resources: Mapping[str, Object]) -> Dict[str, int]:
    """Returns what is requested in all: what the pod itself says, else the sum of its containers."""
    own = (resources.get(_POD) or {}).get("requests") or {}
    summed = {name: sum(amount(name, (each.get("requests") or {}).get(name)) for each in resources.values()) for name in _RESIZABLE}
    return {name: amount(name, own[name]) if name in own else summed[name] for name in _RESIZABLE}


def amount(name: str, text: Any) -> int:
    """Thousandths of a CPU, or bytes."""
    return quantities.milli(text) if name == "cpu" else quantities.whole(text)
