"""Endpoints: for each Service with a selector, one object that lists the pods which serve it now.

Ready pods are in `addresses`, others in `notReadyAddresses`. A pod that is being deleted or finished is left out at once, as in Kubernetes;
EndpointSlices
still list the one that is being deleted, with its conditions.
Subsets are packed as in Kubernetes: addresses with the same ports share one. A Service without a selector is left to people.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from labctl.controllers.backends import Departures, Port, Ports, hostname, labels_of, target_ref
from labctl.controllers.indexes import ENDPOINTS, PODS, PODS_SERVING, SERVICES, by_selector, serving_pods
from labctl.decoding import from_values
from labctl.journal import came_and_went
from labctl.reconcile.plan import NOTHING, Create, Delete, Index, Key, Plan, Replace, View
from labctl.resources.addresses import in_order
from labctl.resources.kinds.core_v1.endpoints import Endpoints as EndpointsView
from labctl.resources.kinds.core_v1.endpoints import EndpointSubset
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.core_v1.service import Service

MANAGED = {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}


class Endpoints:
    """The controller that the module's docstring describes."""

    name = "endpoint-controller"
    kind = SERVICES

    def __init__(self) -> None:
        self._departures = Departures()
        self.watches = {
            SERVICES: lambda _view, seen: (seen.key,),
            ENDPOINTS: lambda view, seen: (seen.key,) if view.get(SERVICES, seen.key) else (),
            PODS: self._departures.concerned,
        }
        self.indexes: Mapping[tuple[str, str], Index] = {**PODS_SERVING, **by_selector(SERVICES)}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        service: Service | None = view.get(SERVICES, key)
        there: EndpointsView | None = view.get(ENDPOINTS, key)
        if service is None or service.metadata.deletion_timestamp:
            return Plan([Delete(ENDPOINTS, key, there.metadata.uid)]) if there else NOTHING
        if not service.spec.selector or service.spec.type == "ExternalName":
            return NOTHING
        if there is not None:
            serving = sum(len(subset.addresses) for subset in there.subsets)
            if (wait_s := self._departures.pause_s(key, serving, view.seen(ENDPOINTS, key), now)) > 0:
                return Plan(again_s=wait_s)
        subsets = _subsets(view, service)
        labels = labels_of(service) | MANAGED
        if there is None:
            return Plan([Create(ENDPOINTS, _object(service, labels, subsets))])
        if there.metadata.labels == labels and there.subsets == from_values(subsets, tuple[EndpointSubset, ...]):
            return NOTHING
        replacement = _object(service, labels, subsets)
        replacement["metadata"] |= {"resourceVersion": there.metadata.resource_version, "annotations": there.metadata.annotations}
        return Plan([Replace(ENDPOINTS, replacement, why=_why(there, subsets))])

    def decided(self, view: View, key: Key, plan: Plan, now: float) -> None:
        self._departures.planned(key, plan)


def _object(service: Service, labels: dict[str, str], subsets: list[dict[str, Any]]) -> dict[str, Any]:
    metadata = {"name": service.metadata.name, "namespace": service.metadata.namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, **({"subsets": subsets} if subsets else {})}


def _subsets(view: View, service: Service) -> list[dict[str, Any]]:
    """Group addresses by their ports. Ports with the same addresses share a subset (RepackSubsets)."""
    at_port: dict[Port, list[tuple[bool, Pod]]] = {}
    everyone = service.spec.publish_not_ready_addresses
    ports_of = Ports(service).of
    for pod in serving_pods(view, service.metadata.namespace, service.spec.selector):
        if pod.metadata.deletion_timestamp and not everyone:
            continue
        ports = ports_of(pod)
        if not ports and not (service.spec.headless and not service.spec.ports):
            continue
        for port in ports or ((),):
            at_port.setdefault(port, []).append((pod.ready or everyone, pod))
    together: dict[tuple[tuple[bool, str], ...], list[Port]] = {}
    for port, pods in at_port.items():
        together.setdefault(tuple([(ready, pod.metadata.uid) for ready, pod in pods]), []).append(port)
    return [_subset(service, at_port[ports[0]], ports) for ports in together.values()]


def _subset(service: Service, pods: list[tuple[bool, Pod]], ports: list[Port]) -> dict[str, Any]:
    pods = sorted(pods, key=lambda item: (in_order(item[1].status.pod_ip), item[1].metadata.uid))
    plain_ports = sorted((dict(port) for port in ports if port), key=lambda port: (port.get("name", ""), port["port"], port["protocol"]))
    subset = {
        "addresses": [_address(pod, service) for ready, pod in pods if ready],
        "notReadyAddresses": [_address(pod, service) for ready, pod in pods if not ready],
        "ports": plain_ports,
    }
    return {key: value for key, value in subset.items() if value}


def _address(pod: Pod, service: Service) -> dict[str, Any]:
    return {"ip": pod.status.pod_ip, **hostname(pod, service), "nodeName": pod.spec.node_name, "targetRef": target_ref(pod)}


def _why(there: EndpointsView, subsets: list[dict[str, Any]]) -> str:
    """Return a sentence about the ready addresses that came and went. It is empty if only others changed."""
    before = {address.ip for subset in there.subsets for address in subset.addresses}
    after = {address["ip"] for subset in subsets for address in subset.get("addresses", ())}
    return came_and_went(after - before, before - after)
