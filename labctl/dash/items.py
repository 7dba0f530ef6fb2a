"""What the page is told of each object: the few fields that it shows, with short texts.

An item is a dict for JSON with `kind` and `key`. Each is made from one typed view alone, so a change of one object is one small item. Texts come from whoever
wrote the objects: they are cut here, and the page shows them as text only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from labctl.reconcile.plan import View
from labctl.resources.kinds.core_v1.event import Event
from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.core_v1.service import Service
from labctl.resources.kinds.discovery_v1.endpointslice import EndpointSlice
from labctl.resources.kinds.labctl_internal_v1.fault import ENDED, Fault
from labctl.resources.kinds.labctl_internal_v1.machine import Machine
from labctl.resources.plurals import EVENTS, FAULTS, MACHINES, NODES, PODS, SERVICES, SLICES

Item = Mapping[str, Any]
TEXT_MAX, ENDPOINTS_MAX, EVENTS_MAX, FAULTS_MAX = 300, 500, 200, 60
OBJECTS_MAX = 5_000  # more than a person can look at; a page of so many still opens within seconds
SERVICE_OF = "kubernetes.io/service-name"


def machine(seen: Machine) -> Item:
    status = seen.status
    return {
        "power": status.power,
        "wanted": seen.spec.power,
        "provider": seen.spec.provider,
        "phase": cut(status.phase),
        "message": cut(status.message),
    }


def node(seen: Node) -> Item:
    taints = [taint.key for taint in seen.spec.taints[:8]]
    return {"ready": seen.ready, "unschedulable": seen.spec.unschedulable, "taints": taints, "address": cut(seen.address())}


def pod(seen: Pod) -> Item:
    controller = seen.metadata.controller
    restarts = sum(one.restart_count for one in seen.status.container_statuses)
    return {
        "node": seen.spec.node_name,
        "state": _state(seen),
        "owner": cut(f"{controller.kind} {controller.name}") if controller else "",
        "ip": cut(seen.status.pod_ip),
        "restarts": restarts,
        "why": cut(_why(seen)),
    }


def _state(seen: Pod) -> str:
    """Returns what the page draws: leaving, failed, done, ready, running (not ready yet) or waiting."""
    if seen.metadata.deletion_timestamp:
        return "leaving"
    if seen.finished:
        return "failed" if seen.status.phase == "Failed" else "done"
    if seen.ready:
        return "ready"
    return "running" if seen.status.phase == "Running" else "waiting"


def _why(seen: Pod) -> str:
    if seen.status.message or seen.status.reason:
        return seen.status.message or seen.status.reason
    for one in seen.status.container_statuses:
        if one.state.waiting and one.state.waiting.reason:
            return one.state.waiting.reason
    told = next((one for one in seen.status.conditions if one.status == "False" and one.message), None)
    return told.message if told and not seen.ready else ""


def service(seen: Service) -> Item:
    ports = [f"{port.port}/{port.protocol}" for port in seen.spec.ports[:8]]
    return {"type": seen.spec.type, "address": seen.spec.cluster_ip or seen.spec.external_name, "ports": ports}


def endpoints(seen: EndpointSlice) -> Item:
    """Returns a slice of a Service: its pods and addresses, and whether each serves."""
    found = []
    for one in seen.endpoints[:ENDPOINTS_MAX]:
        named = one.target_ref.key if one.target_ref and one.target_ref.kind == "Pod" else ""
        found.append([named, one.addresses[0] if one.addresses else "", one.conditions.ready is not False])
    return {"service": f"{seen.metadata.namespace}/{seen.metadata.labels.get(SERVICE_OF, '')}", "endpoints": found}


def fault(seen: Fault) -> Item:
    return {
        "type": seen.spec.type,
        "target": seen.spec.target,
        "peer": seen.spec.peer,
        "phase": seen.phase,
        "over": seen.phase in ENDED,
        "duration": seen.spec.duration,
        "at": seen.status.injected_at or seen.metadata.creation_timestamp or "",
        "healedAt": seen.status.healed_at,
        "message": cut(seen.status.message),
    }


def event(seen: Event) -> Item:
    about = seen.involved_object
    return {
        "at": cut(when(seen)),
        "type": cut(seen.type),
        "reason": cut(seen.reason),
        "about": cut(f"{about.kind} {about.key}"),
        "message": cut(seen.message),
        "count": seen.series.count if seen.series else seen.count or 1,
    }


def when(seen: Event) -> str:
    """Returns when an Event happened last, as a timestamp."""
    last = seen.series.last_observed_time if seen.series else seen.last_timestamp
    return last or seen.event_time or seen.first_timestamp or seen.metadata.creation_timestamp or ""


MAKERS: Mapping[str, tuple[str, Callable[[Any], Item]]] = {
    MACHINES: ("machine", machine),
    NODES: ("node", node),
    PODS: ("pod", pod),
    SERVICES: ("service", service),
    SLICES: ("endpoints", endpoints),
    FAULTS: ("fault", fault),
    EVENTS: ("event", event),
}


def item(resource: str, key: str, seen: Any) -> Item:
    """Returns the item of an object; without one, an item that says that it is gone."""
    name, make = MAKERS[resource]
    return {"kind": name, "key": key, "gone": True} if seen is None else {"kind": name, "key": key, **make(seen)}


def picture(view: View) -> list[Item]:
    """Returns everything that the page shows: all objects up to OBJECTS_MAX of a kind, but of Events and faults that are over only the last ones."""
    found = [
        item(resource, one.metadata.key, one)
        for resource in (MACHINES, NODES, PODS, SERVICES, SLICES)
        for one in islice(view.all(resource), OBJECTS_MAX)
    ]
    faults = sorted(view.all(FAULTS), key=lambda one: (one.phase not in ENDED, one.metadata.creation_timestamp or ""))
    found += [item(FAULTS, one.metadata.key, one) for one in faults[-FAULTS_MAX:]]
    events = sorted(view.all(EVENTS), key=when)
    return found + [item(EVENTS, one.metadata.key, one) for one in events[-EVENTS_MAX:]]


def cut(text: str) -> str:
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"
