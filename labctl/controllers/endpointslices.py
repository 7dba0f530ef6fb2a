"""EndpointSlices: the same pods as in Endpoints, in pieces of at most 100, where pods that are being deleted are shown as terminating.

Which pods serve a Service is decided here; slicing.py divides them into slices. Slices belong to their Service and are deleted with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from random import Random
from typing import Any

from labctl.controllers.backends import Departures, hostname, labels_of, target_ref
from labctl.controllers.backends import Ports as ServicePorts
from labctl.controllers.indexes import NODES, PODS, PODS_BY_NODE, PODS_SERVING, SERVICES, SLICES, by_selector, selecting, serving_pods
from labctl.controllers.settings import ControllerSettings
from labctl.controllers.slicing import SLICES_BY_SERVICE, Ports, Slicer, identity, managed, of_service, removals
from labctl.reconcile.plan import NOTHING, Index, Key, Plan, Seen, View
from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.core_v1.service import Service
from labctl.resources.kinds.core_v1.service_rules import PREFER_SAME_NODE, TRAFFIC_DISTRIBUTIONS

MANAGER = "endpointslice-controller.k8s.io"


class EndpointSlices:
    """The controller that the module's docstring describes."""

    name = "endpointslice-controller"
    kind = SERVICES

    def __init__(self, settings: ControllerSettings = ControllerSettings()) -> None:  # noqa: B008 - frozen
        self._full = settings.endpoints_per_slice
        self._departures = Departures()
        self.watches = {
            SERVICES: lambda _view, seen: (seen.key,),
            SLICES: of_service,
            PODS: self._departures.concerned,
            NODES: _of_zone,
        }
        self.indexes: Mapping[tuple[str, str], Index] = {**PODS_SERVING, **PODS_BY_NODE, **by_selector(SERVICES), **SLICES_BY_SERVICE}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        service: Service | None = view.get(SERVICES, key)
        there = managed(view, MANAGER, key)
        if service is None or service.metadata.deletion_timestamp:
            return Plan(removals(there))
        if not service.spec.selector or service.spec.type == "ExternalName":
            return NOTHING
        serving = sum(bool(endpoint.conditions.ready) for piece in there for endpoint in piece.endpoints)
        written_at = max((view.seen(SLICES, piece.metadata.key) for piece in there), default=-inf)
        if (wait_s := self._departures.pause_s(key, serving, written_at, now)) > 0:
            return Plan(again_s=wait_s)
        meta = service.metadata
        owner = {"apiVersion": "v1", "kind": "Service", "name": meta.name, "uid": meta.uid}
        slicer = Slicer(meta.namespace, meta.name, MANAGER, labels_of(service), owner, self._full)
        return Plan(slicer.plan(_wanted(view, service), there))

    def decided(self, view: View, key: Key, plan: Plan, now: float) -> None:
        self._departures.planned(key, plan)


def _wanted(view: View, service: Service) -> dict[Ports, dict[str, dict[str, Any]]]:
    wanted: dict[Ports, dict[str, dict[str, Any]]] = {}
    ports_of = ServicePorts(service).of
    for pod in serving_pods(view, service.metadata.namespace, service.spec.selector):
        ports = ports_of(pod)
        if ports or not service.spec.ports:
            wanted.setdefault(ports, {})[identity(pod.status.pod_ip, pod.metadata.uid)] = _endpoint(pod, service, _zone(view, pod))
    return wanted


def _of_zone(view: View, seen: Seen) -> Iterator[Key]:
    """Yield the Services of the pods on a node that is in another zone now."""
    if (seen.old.zone if seen.old else "") != (seen.new.zone if seen.new else ""):
        for pod in view.by(PODS, "node", seen.key):
            yield from selecting(view, SERVICES, pod.metadata.namespace, pod.metadata.labels)


def _zone(view: View, pod: Pod) -> str:
    node: Node | None = view.get(NODES, pod.spec.node_name)
    return node.zone if node else ""


def _hints(distribution: str, node: str, zone: str) -> dict[str, Any]:
    """Return from where a ready endpoint is to be reached, as the Service's trafficDistribution says. PreferClose is the old name of PreferSameZone."""
    hints: dict[str, Any] = {"forNodes": [{"name": node}]} if distribution == PREFER_SAME_NODE and node else {}
    if zone:
        hints["forZones"] = [{"name": zone}]
    return {"hints": hints} if hints and distribution in TRAFFIC_DISTRIBUTIONS else {}


def _endpoint(pod: Pod, service: Service, zone: str) -> dict[str, Any]:
    leaving = pod.metadata.deletion_timestamp is not None
    serving = pod.ready
    ready = service.spec.publish_not_ready_addresses or (serving and not leaving)
    return {
        "addresses": [pod.status.pod_ip],
        "conditions": {"ready": ready, "serving": serving, "terminating": leaving},
        **hostname(pod, service),
        "nodeName": pod.spec.node_name,
        **({"zone": zone} if zone else {}),
        **(_hints(service.spec.traffic_distribution, pod.spec.node_name, zone) if ready else {}),
        "targetRef": target_ref(pod),
    }
