"""EndpointSlices: the same answer as Endpoints, in pieces of at most 100, with what is leaving shown as terminating.

An endpoint stays in the slice where it is, so that one pod's change rewrites one slice. New ones fill slices that change anyway, then others with room, then
new slices. A Service whose selector finds nobody has one empty slice. Slices belong to their Service and go with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from labctl.controllers.backends import backends, concerned, hostname, labels_of, ports_of, target_ref
from labctl.controllers.indexes import PODS, PODS_BY_LABEL, SERVICES, SLICES, by_selector
from labctl.controllers.settings import ControllerSettings
from labctl.reconcile.plan import NOTHING, Action, Create, Delete, Index, Key, Plan, Replace, Seen, View
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.kinds.core_v1.service import Service
from labctl.resources.kinds.discovery_v1.endpointslice import MANAGED_BY_LABEL, SERVICE_LABEL, Endpoint, EndpointSlice, SlicePort

MANAGER = "endpointslice-controller.k8s.io"

Ports = tuple[tuple[tuple[str, Any], ...], ...]


def _service(view: EndpointSlice) -> Iterable[str]:
    managed = view.metadata.labels.get(MANAGED_BY_LABEL) == MANAGER
    return (f"{view.metadata.namespace}/{view.service}",) if managed and view.service else ()


class EndpointSlices:
    name = "endpointslice-controller"
    kind = SERVICES

    def __init__(self, settings: ControllerSettings = ControllerSettings()) -> None:  # noqa: B008 - frozen
        self._full = settings.endpoints_per_slice
        self.watches = {SERVICES: lambda _view, seen: (seen.key,), SLICES: _of_service, PODS: concerned}
        self.indexes: Mapping[tuple[str, str], Index] = {
            **PODS_BY_LABEL,
            **by_selector(SERVICES),
            (SLICES, "service"): _service,
        }

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        service: Service | None = view.get(SERVICES, key)
        there = [piece for piece in view.by(SLICES, "service", key) if not piece.metadata.deletion_timestamp]
        if service is None or service.metadata.deletion_timestamp:
            return Plan([Delete(SLICES, piece.metadata.key, piece.metadata.uid) for piece in there])
        if not service.spec.selector or service.spec.type == "ExternalName":
            return NOTHING
        wanted = _wanted(view, service) or {(): {}}
        actions: list[Action] = []
        for ports, endpoints in wanted.items():
            same = [piece for piece in there if piece.ports == msgspec.convert(_plain(ports), tuple[SlicePort, ...])]
            actions += self._fit(service, ports, endpoints, same)
            there = [piece for piece in there if piece not in same]
        actions += [Delete(SLICES, piece.metadata.key, piece.metadata.uid) for piece in there]
        return Plan(actions)

    def _fit(self, service: Service, ports: Ports, wanted: dict[str, dict[str, Any]], there: Sequence[EndpointSlice]) -> list[Action]:
        """The least writing that makes the slices of one set of ports hold what is wanted."""
        left = dict(wanted)
        kept: list[tuple[EndpointSlice, list[dict[str, Any]]]] = []
        for piece in there:
            stay = [left.pop(uid) for endpoint in piece.endpoints if (uid := _uid(endpoint)) in left]
            kept.append((piece, stay))
        kept.sort(key=lambda item: (_same(item[0], item[1]), -len(item[1])))
        new = list(left.values())
        for _, stay in kept:
            room = self._full - len(stay)
            stay += new[:room]
            new = new[room:]
        pieces = [new[at : at + self._full] for at in range(0, len(new), self._full)]
        empty = not wanted  # one empty slice says: nobody
        actions: list[Action] = []
        for piece, stay in kept:
            if not stay and not empty:
                actions.append(Delete(SLICES, piece.metadata.key, piece.metadata.uid))
            elif not _same(piece, stay) or piece.metadata.labels != _labels(service):
                actions.append(Replace(SLICES, _object(service, ports, stay, piece)))
            empty = False
        if empty:
            pieces.append([])
        return actions + [Create(SLICES, _object(service, ports, endpoints)) for endpoints in pieces]


def _of_service(view: View, seen: Seen) -> Iterable[Key]:
    piece = seen.new or seen.old
    return (f"{piece.metadata.namespace}/{piece.service}",) if piece.service else ()


def _wanted(view: View, service: Service) -> dict[Ports, dict[str, dict[str, Any]]]:
    """Endpoints by pod uid, by the ports they answer at."""
    wanted: dict[Ports, dict[str, dict[str, Any]]] = {}
    for pod in backends(view, service):
        ports = tuple(tuple(port.items()) for port in ports_of(pod, service))
        if ports or not service.spec.ports:
            wanted.setdefault(ports, {})[pod.metadata.uid] = _endpoint(pod, service)
    return wanted


def _endpoint(pod: Pod, service: Service) -> dict[str, Any]:
    leaving = pod.metadata.deletion_timestamp is not None
    serving = pod.ready
    ready = service.spec.publish_not_ready_addresses or (serving and not leaving)
    return {
        "addresses": [pod.status.pod_ip],
        "conditions": {"ready": ready, "serving": serving, "terminating": leaving},
        **hostname(pod, service),
        "nodeName": pod.spec.node_name,
        "targetRef": target_ref(pod),
    }


def _uid(endpoint: Endpoint) -> str:
    return endpoint.target_ref.uid if endpoint.target_ref else ""


def _same(piece: EndpointSlice, endpoints: list[dict[str, Any]]) -> bool:
    return piece.endpoints == msgspec.convert(endpoints, tuple[Endpoint, ...])


def _plain(ports: Ports) -> list[dict[str, Any]]:
    return [dict(port) for port in ports]


def _labels(service: Service) -> dict[str, str]:
    return labels_of(service) | {SERVICE_LABEL: service.metadata.name, MANAGED_BY_LABEL: MANAGER}


def _object(service: Service, ports: Ports, endpoints: list[dict[str, Any]], piece: EndpointSlice | None = None) -> dict[str, Any]:
    meta = service.metadata
    owner = {"apiVersion": "v1", "kind": "Service", "name": meta.name, "uid": meta.uid, "controller": True, "blockOwnerDeletion": True}
    metadata: dict[str, Any] = {"namespace": meta.namespace, "labels": _labels(service), "ownerReferences": [owner]}
    if piece is None:
        metadata["generateName"] = f"{meta.name}-"
    else:
        metadata |= {"name": piece.metadata.name, "resourceVersion": piece.metadata.resource_version}
        metadata["generateName"] = piece.metadata.generate_name
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": _plain(ports),
    }
