"""Mirroring copies Endpoints that a person keeps for a Service without a selector into EndpointSlices, because clients read those today.

Endpoints with the label `endpointslice.kubernetes.io/skip-mirror: "true"` are skipped, because somebody else keeps their slices. The slices belong to the Endpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from labctl.controllers.conditions import plain
from labctl.controllers.indexes import ENDPOINTS, SERVICES, SLICES
from labctl.controllers.settings import ControllerSettings
from labctl.controllers.slicing import SLICES_BY_SERVICE, Ports, Slicer, identity, managed, of_service, removals
from labctl.reconcile.plan import Index, Key, Plan, View
from labctl.resources.kinds.core_v1.endpoints import EndpointAddress, Endpoints
from labctl.resources.kinds.core_v1.service import Service

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP_LABEL = "endpointslice.kubernetes.io/skip-mirror"


class Mirroring:
    """The controller that the module's docstring describes."""

    name = "endpointslicemirroring-controller"
    kind = ENDPOINTS

    def __init__(self, settings: ControllerSettings = ControllerSettings()) -> None:  # noqa: B008 - frozen
        self._full = settings.endpoints_per_slice
        self.watches = {
            ENDPOINTS: lambda _view, seen: (seen.key,),
            SERVICES: lambda _view, seen: (seen.key,),
            SLICES: of_service,
        }
        self.indexes: Mapping[tuple[str, str], Index] = {**SLICES_BY_SERVICE}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        endpoints: Endpoints | None = view.get(ENDPOINTS, key)
        there = managed(view, MANAGER, key)
        if endpoints is None or not _by_hand(endpoints, view.get(SERVICES, key)):
            return Plan(removals(there))
        meta = endpoints.metadata
        owner = {"apiVersion": "v1", "kind": "Endpoints", "name": meta.name, "uid": meta.uid}
        slicer = Slicer(meta.namespace, meta.name, MANAGER, meta.labels, owner, self._full)
        return Plan(slicer.plan(_wanted(endpoints), there))


def _by_hand(endpoints: Endpoints, service: Service | None) -> bool:
    meta = endpoints.metadata
    kept = service is not None and not service.spec.selector and service.spec.type != "ExternalName"
    return kept and meta.deletion_timestamp is None and meta.labels.get(SKIP_LABEL) != "true"


def _wanted(endpoints: Endpoints) -> dict[Ports, dict[str, dict[str, Any]]]:
    wanted: dict[Ports, dict[str, dict[str, Any]]] = {}
    for subset in endpoints.subsets:
        ports = tuple(tuple(plain(port).items()) for port in subset.ports)
        there = wanted.setdefault(ports, {})
        for addresses, ready in ((subset.addresses, True), (subset.not_ready_addresses, False)):
            for address in addresses:
                there[identity(address.ip, address.target_ref.uid if address.target_ref else "")] = _endpoint(address, ready)
    return wanted


def _endpoint(address: EndpointAddress, ready: bool) -> dict[str, Any]:
    named = {"hostname": address.hostname, "nodeName": address.node_name}
    shown: dict[str, Any] = {name: text for name, text in named.items() if text}
    if address.target_ref:
        shown["targetRef"] = plain(address.target_ref)
    return {"addresses": [address.ip], "conditions": {"ready": ready}, **shown}
