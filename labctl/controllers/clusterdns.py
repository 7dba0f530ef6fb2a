"""ClusterDns keeps the endpoints of Service `kube-dns`: every node, because each one's DNS server (agent/dns) answers the pods beside it.

The Service's internalTrafficPolicy is Local, so a node's rules lead to the node itself, and no node needs another one for names. The endpoints stay when a node is
silent: nobody else is sent to it. Whoever gives the Service a selector (for a DNS server in pods) gets the usual endpoints instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

from labctl import defaults
from labctl.controllers.indexes import NODES, SERVICES, SLICES
from labctl.controllers.settings import ControllerSettings
from labctl.controllers.slicing import SLICES_BY_SERVICE, Slicer, identity, managed, of_service, removals
from labctl.reconcile.plan import Index, Key, Plan, Seen, View
from labctl.resources.bootstrap import DNS_SERVICE
from labctl.resources.kinds.core_v1.service import Service

MANAGER = "dns.labctl.internal"


class ClusterDns:
    name = "cluster-dns"
    kind = SERVICES

    def __init__(self, settings: ControllerSettings = ControllerSettings()) -> None:  # noqa: B008 - frozen
        self._full = settings.endpoints_per_slice
        self.watches = {
            SERVICES: lambda _view, seen: _ours((seen.key,)),
            SLICES: lambda view, seen: _ours(of_service(view, seen)),
            NODES: _moved,
        }
        self.indexes: Mapping[tuple[str, str], Index] = {**SLICES_BY_SERVICE}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        service: Service | None = view.get(SERVICES, key)
        there = managed(view, MANAGER, key)
        if service is None or service.metadata.deletion_timestamp or service.spec.selector:
            return Plan(removals(there))
        meta = service.metadata
        owner = {"apiVersion": "v1", "kind": "Service", "name": meta.name, "uid": meta.uid}
        nodes = sorted((node for node in view.all(NODES) if node.address()), key=lambda node: str(node.metadata.name))
        wanted = {identity(node.address(), node.metadata.uid): _endpoint(node) for node in nodes}
        ports = tuple((("name", port.name), ("port", defaults.DNS_PORT), ("protocol", port.protocol)) for port in service.spec.ports)
        return Plan(Slicer(meta.namespace, meta.name, MANAGER, meta.labels, owner, self._full).plan({ports: wanted}, there))


def _ours(keys: Iterable[Key]) -> Iterable[Key]:
    return (key for key in keys if key == DNS_SERVICE)


def _moved(_view: View, seen: Seen) -> Iterable[Key]:
    old, new = (one.address() if one is not None else "" for one in (seen.old, seen.new))
    return (DNS_SERVICE,) if old != new else ()


def _endpoint(node: Any) -> dict[str, Any]:
    return {
        "addresses": [node.address()],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": node.metadata.name,
        "targetRef": {"kind": "Node", "name": node.metadata.name, "uid": node.metadata.uid},
    }
