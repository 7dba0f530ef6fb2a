"""What the deeds share that are carried out on a minion, by its agent's `fault` program (labctl/agent/faults/).

    MinionDeed ── JSON on standard input, over SSH ─► agent fault ─► look | inject | heal

A `Place` is one machine and what is meant there. `undo` has the places, so that healing needs neither the pod nor the machine as they were. Values of a
Fault travel as JSON only, and the agent checks them once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec

from labctl.decoding import from_json, from_values
from labctl.errors import CommandFailed, LabctlError, RemoteError
from labctl.faults.deed import Site
from labctl.resources.kinds.core_v1.pod_view import ContainerStatus, Pod
from labctl.resources.kinds.labctl_internal_v1.fault import Fault
from labctl.resources.plurals import MACHINES, PODS

AGENT = ("/usr/bin/python3", "/opt/labctl/agent", "fault")
DEADLINE_S = 60.0
ALL = "all"
"""A target that means every machine that is on."""


class Place(msgspec.Struct, frozen=True):
    """A machine, the boot of it that is meant, the pod if one is meant, and the parameters that the agent gets besides those of the fault."""

    machine: str
    boot: str = ""
    parameters: Mapping[str, Any] = {}
    pod: str = ""  # NAMESPACE/NAME


_Sentence = Annotated[str, msgspec.Meta(max_length=500)]


class Answer(msgspec.Struct, frozen=True):
    """What an agent says. A minion may say anything, so it is checked and bounded."""

    refused: _Sentence = ""
    done: Annotated[tuple[_Sentence, ...], msgspec.Meta(max_length=20)] = ()


class NoPlace(LabctlError):
    """The target does not exist, or can't be hit now."""


class MinionDeed:
    """A deed on one minion, on all, or on a container of one. `keeps_on_disk`: a reboot alone does not heal it."""

    def __init__(
        self,
        *types: str,
        places: Callable[[Fault, Site], Sequence[Place]],
        parameters: Callable[[Fault], Mapping[str, Any]] = lambda _fault: {},
        keeps_on_disk: bool = False,
    ) -> None:
        self.types = types
        self._places = places
        self._parameters = parameters
        self._keeps_on_disk = keeps_on_disk

    def refuse(self, fault: Fault, site: Site) -> str:
        try:
            places = self._places(fault, site)
        except NoPlace as error:
            return str(error)
        names = {place.machine for place in places}
        for other in site.unfinished(fault):
            hit = {place["machine"] for place in other.status.undo.get("places", ())}
            if other.spec.type == fault.spec.type and ALL in (fault.spec.target, other.spec.target) and hit & names:
                return f"fault {other.name} ({other.spec.type} on {other.spec.target}) is at work there already; heal it first"
        return ""

    async def probe(self, fault: Fault, site: Site) -> str:
        for place in self._places(fault, site):
            said = await self._ask(fault, site, "look", place)
            if said.refused:
                return f"{place.machine}: {said.refused}"
        return ""

    def undo(self, fault: Fault, site: Site) -> Mapping[str, Any]:
        return {"places": [msgspec.to_builtins(place) for place in self._places(fault, site)]}

    async def inject(self, fault: Fault, site: Site) -> Sequence[str]:
        return await self._everywhere(fault, site, "inject", fault.status.undo)

    async def heal(self, fault: Fault, site: Site, undo: Mapping[str, Any]) -> Sequence[str]:
        return await self._everywhere(fault, site, "heal", undo)

    def over(self, fault: Fault, site: Site) -> str:
        """Return why it is over: a machine that booted again, or a container that ended, has nothing of the fault any more, unless it was on the machine's disk."""
        places = places_of(fault.status.undo)
        if self._keeps_on_disk or not places:
            return ""
        whys = [_why_gone(place, site) for place in places]
        return whys[0] if all(whys) else ""

    async def _everywhere(self, fault: Fault, site: Site, do: str, undo: Mapping[str, Any]) -> Sequence[str]:
        """Do it at every place at the same time. If one fails, the others are completed before the error is raised."""
        done = await asyncio.gather(*(self._one(fault, site, do, place) for place in places_of(undo)), return_exceptions=True)
        for each in done:
            if isinstance(each, BaseException):
                raise each
        return [sentence for each in done if not isinstance(each, BaseException) for sentence in each]

    async def _one(self, fault: Fault, site: Site, do: str, place: Place) -> Sequence[str]:
        machine = site.machine(place.machine)
        if do == "heal" and machine is None:
            return [f"{place.machine} is gone"]
        if do == "heal" and machine and machine.status.power == "Off" and not self._keeps_on_disk:
            return [f"{place.machine} is off: nothing of it runs any more"]
        said = await self._ask(fault, site, do, place)
        return [f"{place.machine}: {sentence}" for sentence in said.done]

    async def _ask(self, fault: Fault, site: Site, do: str, place: Place) -> Answer:
        if site.remote is None:
            raise LabctlError("this lab has no machines")
        began = fault.status.injected_monotonic
        request = {
            "type": fault.spec.type,
            "do": do,
            "fault": fault.name,
            "forSeconds": fault.duration_s,
            "parameters": {
                **self._parameters(fault),
                **place.parameters,
                "ageSeconds": max(0.0, site.clock.now() - began) if began else 0.0,
            },
        }
        try:
            result = await site.remote.run(place.machine, AGENT, stdin=msgspec.json.encode(request), deadline_s=DEADLINE_S)
            return from_json(result.stdout, Answer)
        except CommandFailed as error:
            why = " ".join(error.stderr.rpartition("agent fault: ")[2].split())[:500]
            raise LabctlError(f"{place.machine}: {why or error}") from None
        except msgspec.DecodeError as error:
            raise RemoteError(f"{place.machine}: its agent's answer can't be read: {error}") from None


def places_of(undo: Mapping[str, Any]) -> Sequence[Place]:
    return from_values(undo.get("places", []), list[Place])


def _why_gone(place: Place, site: Site) -> str:
    """Says why nothing of the fault can be at this place any more; empty if something may."""
    machine = site.machine(place.machine)
    if machine is None:
        return f"{place.machine} was destroyed"
    if machine.status.power == "On" and machine.status.boot_id not in ("", place.boot):
        return f"{place.machine} was booted again"
    return _why_ended(place, site) if place.pod else ""


def _why_ended(place: Place, site: Site) -> str:
    """Says that the container of the place has ended, or that its pod is gone; empty if it runs."""
    pod = site.view.get(PODS, place.pod)
    if pod is None or pod.metadata.uid != place.parameters["uid"]:
        return f"pod {place.pod.rpartition('/')[2]} is gone"
    status = status_of(pod, place.parameters["container"])
    if status is None or status.state.running is None or identity(status) != place.parameters["id"]:
        return f"container {place.parameters['container']} of pod {pod.metadata.name} ended"
    return ""


# -- where


def on_machine(fault: Fault, site: Site) -> Sequence[Place]:
    """Return the machine that is the target. Raises NoPlace."""
    return [_machine(fault.machine, site)]


def on_machines(fault: Fault, site: Site) -> Sequence[Place]:
    """Return the machine that is the target, or every machine that is on if the target is `all`. Raises NoPlace."""
    if fault.machine != ALL:
        return on_machine(fault, site)
    names = [each.metadata.name for each in site.view.all(MACHINES) if each.status.power == "On"]
    if not names:
        raise NoPlace("no machine is on")
    return [_machine(name, site) for name in names]


def in_container(fault: Fault, site: Site) -> Sequence[Place]:
    """Return the machine on which the target's container runs, and which container it is. Raises NoPlace."""
    namespace, name, container = fault.pod
    pod = site.view.get(PODS, f"{namespace}/{name}")
    if pod is None:
        raise NoPlace(f"there is no pod {name} in namespace {namespace}")
    names = [each.name for each in (*pod.spec.containers, *pod.spec.init_containers)]
    if container and container not in names:
        raise NoPlace(f"pod {name} has no container {container}: it has {', '.join(names)}")
    container = container or names[0]  # as kubectl takes the first one
    status = status_of(pod, container)
    if not pod.spec.node_name or status is None or status.state.running is None:
        raise NoPlace(f"container {container} of pod {name} does not run")
    place = _machine(pod.spec.node_name, site)
    parameters = {"uid": pod.metadata.uid, "container": container, "id": identity(status)}
    return [Place(place.machine, place.boot, parameters, f"{namespace}/{name}")]


def status_of(pod: Pod, container: str) -> ContainerStatus | None:
    statuses = (*pod.status.container_statuses, *pod.status.init_container_statuses)
    return next((each for each in statuses if each.name == container), None)


def identity(status: ContainerStatus) -> str:
    """Returns the container's id as its agent has it."""
    return status.container_id.partition("://")[2]


def _machine(name: str, site: Site) -> Place:
    if why_not := site.why_not_on(name):
        raise NoPlace(why_not)
    machine = site.machine(name)
    assert machine is not None
    if machine.status.power != "On":
        raise NoPlace(f"{name} is paused")
    return Place(name, machine.status.boot_id)
