"""First step: what Services and their endpoints mean, as Kubernetes says. Nothing here knows iptables.

Who calls it: the Proxy, for the one Service that changed; tests, for all. What flows: typed views in, frozen Frontends out, one per Service port.
A port of a Service finds its endpoints by the port's *name*: targetPort, by number or by name, was resolved per pod by the endpoints controller.
EndpointSlices count; where a Service has none, its Endpoints do (people write those by hand for Services without a selector).
A headless or ExternalName Service has no frontend: there is no address to serve.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import AddressValueError, IPv4Address

import msgspec

from labctl.resources.kinds.core_v1.endpoints import Endpoints
from labctl.resources.kinds.core_v1.service import Service, ServicePort
from labctl.resources.kinds.discovery_v1.endpointslice import EndpointSlice

PROTOCOLS = ("TCP", "UDP", "SCTP")


class Backend(msgspec.Struct, frozen=True, order=True, gc=False):
    """One address that serves a port. `node` and `pod` (`namespace/name`) are empty where nobody said."""

    address: str
    port: int
    node: str = ""
    pod: str = ""


class Frontend(msgspec.Struct, frozen=True, gc=False):
    """One port of one Service, and who serves it now."""

    service: str  # namespace/name
    name: str  # the port's name; empty if it is the only one
    protocol: str  # TCP, UDP, SCTP
    address: str  # the virtual IP
    port: int
    backends: tuple[Backend, ...] = ()  # ready ones only, sorted
    node_port: int = 0
    external_addresses: tuple[str, ...] = ()
    affinity_s: int = 0  # a client stays with its backend so long; 0: no affinity
    internal_local: bool = False  # from inside: only backends of the same node
    external_local: bool = False  # from outside: only backends of the same node, the client's address kept
    local_port: int = 0  # userspace mode: where the forwarder listens

    @property
    def id(self) -> str:
        return f"{self.service}:{self.name}" if self.name else self.service

    def near(self, node: str) -> tuple[Backend, ...]:
        return tuple(b for b in self.backends if b.node == node)


Table = Mapping[str, tuple[Frontend, ...]]
"""Service key -> its ports."""


def frontends(services: Iterable[Service], endpoints: Iterable[EndpointSlice | Endpoints]) -> Table:
    """The whole table. `endpoints` may hold slices and Endpoints, in any order."""
    slices: dict[str, list[EndpointSlice]] = defaultdict(list)
    plain: dict[str, Endpoints] = {}
    for one in endpoints:
        if isinstance(one, EndpointSlice):
            slices[f"{one.metadata.namespace}/{one.service}"].append(one)
        else:
            plain[one.metadata.key] = one
    return {s.metadata.key: frontends_of(s, slices[s.metadata.key], plain.get(s.metadata.key)) for s in services}


def frontends_of(service: Service, slices: Iterable[EndpointSlice], plain: Endpoints | None) -> tuple[Frontend, ...]:
    """One Service's frontends, in the order of its ports."""
    spec = service.spec
    if spec.type == "ExternalName" or not _usable(spec.cluster_ip):
        return ()
    slices = list(slices)
    found = _from_slices(slices) if slices else _from_endpoints(plain, spec.publish_not_ready_addresses)
    backends: dict[tuple[str, str], set[Backend]] = defaultdict(set)
    for name, protocol, backend in found:
        backends[name, protocol].add(backend)
    return tuple(_frontend(service, port, backends[port.name, port.protocol]) for port in spec.ports if port.protocol in PROTOCOLS)


def _frontend(service: Service, port: ServicePort, backends: set[Backend]) -> Frontend:
    spec = service.spec
    ingress = tuple(i.ip for i in service.status.load_balancer.ingress) if spec.type == "LoadBalancer" else ()
    external = tuple(dict.fromkeys(ip for ip in (*spec.external_ips, *ingress) if _usable(ip)))
    node_port = port.node_port if spec.type in ("NodePort", "LoadBalancer") else 0
    return Frontend(
        service=service.metadata.key,
        name=port.name,
        protocol=port.protocol,
        address=spec.cluster_ip,
        port=port.port,
        backends=tuple(sorted(backends)),
        node_port=node_port,
        external_addresses=external,
        affinity_s=spec.affinity_timeout_s,
        internal_local=spec.internal_traffic_policy == "Local",
        external_local=spec.external_traffic_policy == "Local" and bool(node_port or external),
    )


def _from_slices(slices: Iterable[EndpointSlice]) -> Iterator[tuple[str, str, Backend]]:
    """(port name, protocol, backend). An unknown readiness is to be read as ready; publishNotReadyAddresses is already in `ready`."""
    for one in slices:
        if one.address_type != "IPv4":
            continue
        for endpoint in one.endpoints:
            if endpoint.conditions.ready is False or endpoint.conditions.terminating or not endpoint.addresses:
                continue
            address = endpoint.addresses[0]  # Kubernetes' own proxy uses the first only
            if not _usable(address):
                continue
            pod = _pod(endpoint.target_ref)
            for port in one.ports:
                if port.port:
                    yield port.name, port.protocol, Backend(address, port.port, endpoint.node_name, pod)


def _from_endpoints(plain: Endpoints | None, not_ready_too: bool) -> Iterator[tuple[str, str, Backend]]:
    for subset in plain.subsets if plain else ():
        addresses = subset.addresses + (subset.not_ready_addresses if not_ready_too else ())
        for address in addresses:
            if not _usable(address.ip):
                continue
            pod = _pod(address.target_ref)
            for port in subset.ports:
                yield port.name, port.protocol, Backend(address.ip, port.port, address.node_name, pod)


def _pod(reference: object) -> str:
    return reference.key if reference is not None and reference.kind == "Pod" else ""  # type: ignore[attr-defined]


def _usable(address: str) -> bool:
    """An IPv4 address that a packet may be sent to from another machine."""
    try:
        parsed = IPv4Address(address)
    except (AddressValueError, ValueError):
        return False
    return not (parsed.is_loopback or parsed.is_unspecified or parsed.is_link_local or parsed.is_multicast)
