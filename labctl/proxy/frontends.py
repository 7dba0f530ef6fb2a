"""First step: what Services and their endpoints mean, as Kubernetes says. Nothing here knows iptables.

The Proxy calls this for the one Service that changed; tests call it for all. Typed views come in; frozen Frontends go out, one for each Service port.
A port of a Service finds its endpoints by the port's *name*: the endpoints controller has already turned targetPort into a number for each pod.
EndpointSlices are read first; a Service that has none is served by its Endpoints (people write those by hand for Services without a selector).
A headless or ExternalName Service has no frontend, because it has no address to serve. One with a label of `NOT_OURS` has none, because it says so.

Which endpoints answer (KEP-1669): the ready ones. Where none is ready, those that are leaving and still serve answer, until they end.
With a traffic policy of Local the same choice is made among the endpoints of one node. Hints of slices (`trafficDistribution`) narrow the ready ones.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Network

import msgspec

from labctl.defaults import MACHINE_PORTS
from labctl.resources.addresses import is_ordinary_ipv4
from labctl.resources.kinds.core_v1.endpoints import Endpoints
from labctl.resources.kinds.core_v1.service import Service, ServicePort
from labctl.resources.kinds.discovery_v1.endpointslice import EndpointHints, EndpointSlice

PROTOCOLS = ("TCP", "UDP", "SCTP")
NOT_OURS = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
"""Labels, whatever their values, of Services that the cluster's own proxy leaves alone: another proxy serves them, or nobody (KEP-2447)."""


class Backend(msgspec.Struct, frozen=True, order=True, gc=False):
    """One address that serves a port. `node` and `pod` (`namespace/name`) are empty where nobody said."""

    address: str
    port: int
    node: str = ""
    pod: str = ""
    for_zones: tuple[str, ...] = ()  # hints of its slice: clients there are to come here
    for_nodes: tuple[str, ...] = ()


class Frontend(msgspec.Struct, frozen=True, gc=False):
    """One port of one Service, and the endpoints that serve it now."""

    service: str  # namespace/name
    name: str  # the port's name; empty if it is the only one
    protocol: str  # TCP, UDP, SCTP
    address: str  # the virtual IP
    port: int
    backends: tuple[Backend, ...] = ()  # the ready endpoints, sorted
    leaving: tuple[Backend, ...] = ()  # endpoints that terminate and still serve, sorted; used where no endpoint is ready
    node_port: int = 0
    external_addresses: tuple[str, ...] = ()
    fenced_addresses: tuple[str, ...] = ()  # those of them that only clients in `source_ranges` may use
    source_ranges: tuple[str, ...] = ()
    affinity_s: int = 0  # seconds that a client stays with its backend; 0 means no affinity
    internal_local: bool = False  # clients of the virtual IP reach only backends of their own node
    external_local: bool = False  # clients from outside reach only backends of the node they ask, which see the client's address
    local_port: int = 0  # the port that the forwarder listens on in userspace mode
    by_node: bool = False  # every ready endpoint has a hint for a node: clients prefer those of their own
    by_zone: bool = False  # the same for zones

    @property
    def id(self) -> str:
        return f"{self.service}:{self.name}" if self.name else self.service

    @property
    def serving(self) -> tuple[Backend, ...]:
        """Return the endpoints for new connections: the ready ones, or those that are terminating if none is ready."""
        return self.backends or self.leaving

    def close(self, node: str, zone: str) -> tuple[Backend, ...]:
        """Return the endpoints for new connections from a node: those that have a hint for it, else for its zone, if each has hints; else all that serve."""
        if self.by_node and (found := tuple(b for b in self.backends if node in b.for_nodes)):
            return found
        if self.by_zone and zone and (found := tuple(b for b in self.backends if zone in b.for_zones)):
            return found
        return self.serving

    def near(self, node: str) -> tuple[Backend, ...]:
        """Return the endpoints of one node for new connections, chosen as `serving` chooses."""
        ready = tuple(b for b in self.backends if b.node == node)
        return ready or tuple(b for b in self.leaving if b.node == node)


def frontends(services: Iterable[Service], endpoints: Iterable[EndpointSlice | Endpoints]) -> Mapping[str, tuple[Frontend, ...]]:
    """Return the frontends of each Service, by its key. `endpoints` may hold slices and Endpoints, in any order."""
    slices: dict[str, list[EndpointSlice]] = defaultdict(list)
    plain: dict[str, Endpoints] = {}
    for one in endpoints:
        if isinstance(one, EndpointSlice):
            slices[f"{one.metadata.namespace}/{one.service}"].append(one)
        else:
            plain[one.metadata.key] = one
    return {s.metadata.key: frontends_of(s, slices[s.metadata.key], plain.get(s.metadata.key)) if is_ours(s) else () for s in services}


def is_ours(service: Service) -> bool:
    """Tell whether this proxy serves the Service, as its labels have it. Whoever asks where the endpoints are, whoever serves them, asks `frontends_of`."""
    return not any(label in service.metadata.labels for label in NOT_OURS)


def frontends_of(service: Service, slices: Iterable[EndpointSlice], plain: Endpoints | None) -> tuple[Frontend, ...]:
    """Return one Service's frontends, in the order of its ports."""
    spec = service.spec
    if spec.type == "ExternalName" or not _usable(spec.cluster_ip):
        return ()
    slices = list(slices)
    found = _from_slices(slices) if slices else _from_endpoints(plain, spec.publish_not_ready_addresses)
    ready: dict[tuple[str, str], set[Backend]] = defaultdict(set)
    leaving: dict[tuple[str, str], set[Backend]] = defaultdict(set)
    for name, protocol, backend, is_ready in found:
        (ready if is_ready else leaving)[name, protocol].add(backend)
    served = [(port, (port.name, port.protocol)) for port in spec.ports if port.protocol in PROTOCOLS]
    return tuple(_frontend(service, port, ready[key], leaving[key]) for port, key in served)


def sparing(frontends: tuple[Frontend, ...], machines: Collection[str], api: Collection[tuple[str, int]]) -> tuple[Frontend, ...]:
    """Return the frontends without the external addresses that are a machine's own, at the ports at which a machine itself is spoken to, and without the
    API's own addresses and ports: every agent would be sent to whoever made the Service.
    """
    return tuple(
        msgspec.structs.replace(one, external_addresses=tuple(each for each in one.external_addresses if _free(one, each, machines, api)))
        for one in frontends
    )


def takes_machine_port(frontend: Frontend) -> bool:
    return bool(frontend.external_addresses) and (frontend.protocol, frontend.port) in MACHINE_PORTS


def _free(frontend: Frontend, address: str, machines: Collection[str], api: Collection[tuple[str, int]]) -> bool:
    if frontend.protocol == "TCP" and (address, frontend.port) in api:
        return False
    return address not in machines or (frontend.protocol, frontend.port) not in MACHINE_PORTS


def _frontend(service: Service, port: ServicePort, ready: set[Backend], leaving: set[Backend]) -> Frontend:
    spec = service.spec
    ingress = tuple(i.ip for i in service.status.load_balancer.ingress) if spec.type == "LoadBalancer" else ()
    external = tuple(dict.fromkeys(ip for ip in (*spec.external_ips, *ingress) if _usable(ip)))
    ranges = _ranges(spec.load_balancer_source_ranges) if ingress else ()
    node_port = port.node_port if spec.type in ("NodePort", "LoadBalancer") else 0
    internal_local = spec.internal_traffic_policy == "Local"
    external_local = spec.external_traffic_policy == "Local" and bool(node_port or external)
    if ready and not internal_local and not external_local and port.protocol != "UDP":
        leaving = set()  # they are used nowhere, so their comings and goings change nothing; UDP connections to them go on
    return Frontend(
        service=service.metadata.key,
        name=port.name,
        protocol=port.protocol,
        address=spec.cluster_ip,
        port=port.port,
        backends=tuple(sorted(ready)),
        leaving=tuple(sorted(leaving)),
        node_port=node_port,
        external_addresses=external,
        fenced_addresses=tuple(ip for ip in external if ip in ingress) if ranges else (),
        source_ranges=ranges,
        affinity_s=spec.affinity_timeout_s,
        internal_local=internal_local,
        external_local=external_local,
        by_node=bool(ready) and all(b.for_nodes for b in ready),
        by_zone=bool(ready) and all(b.for_zones for b in ready),
    )


def _ranges(said: Iterable[str]) -> tuple[str, ...]:
    """Return IPv4 ranges as iptables writes them, or () if every client may come: no range is named, or one that holds all addresses.

    If only ranges of IPv6 are named, no client may come. Then the result is a range without any client's address.
    """
    named, ranges = [text.strip() for text in said if text.strip()], set()
    for text in named:
        with contextlib.suppress(ValueError):
            ranges.add(IPv4Network(text, strict=False))
    if not named or IPv4Network("0.0.0.0/0") in ranges:
        return ()
    return tuple(str(each) for each in sorted(ranges)) or ("255.255.255.255/32",)


_PORTS = 1 << 16  # a number beyond would have every minion's iptables refuse all rules

_Found = tuple[str, str, Backend, bool]
"""A port's name and protocol, an endpoint of it, and whether that is ready; if not, it is leaving and still serves."""


def _from_slices(slices: Iterable[EndpointSlice]) -> Iterator[_Found]:
    """Yield the endpoints of slices. An unset condition means ready, serving and not terminating. publishNotReadyAddresses is already part of `ready`."""
    for one in slices:
        if one.address_type != "IPv4":
            continue
        for endpoint in one.endpoints:
            said = endpoint.conditions
            ready = said.ready is not False
            leaving = bool(said.terminating) and said.serving is not False
            if not (ready or leaving) or not endpoint.addresses or not _usable(endpoint.addresses[0]):
                continue
            address = endpoint.addresses[0]  # Kubernetes' own proxy uses the first only
            pod, hints = _pod(endpoint.target_ref), _hints(endpoint.hints)
            for port in one.ports:
                if port.port and 0 < port.port < _PORTS:
                    yield port.name, port.protocol, Backend(address, port.port, endpoint.node_name, pod, *hints), ready


def _from_endpoints(plain: Endpoints | None, not_ready_too: bool) -> Iterator[_Found]:
    for subset in plain.subsets if plain else ():
        addresses = subset.addresses + (subset.not_ready_addresses if not_ready_too else ())
        for address in addresses:
            if not _usable(address.ip):
                continue
            pod = _pod(address.target_ref)
            for port in subset.ports:
                yield port.name, port.protocol, Backend(address.ip, port.port, address.node_name, pod), True


def _hints(said: EndpointHints | None) -> tuple[tuple[str, ...], ...]:
    return (tuple(each.name for each in said.for_zones), tuple(each.name for each in said.for_nodes)) if said else ()


def _pod(reference: object) -> str:
    return reference.key if reference is not None and reference.kind == "Pod" else ""  # type: ignore[attr-defined]


def _usable(address: str) -> bool:
    """Tell whether it is an IPv4 address to which another machine may send a packet."""
    if is_ordinary_ipv4(address):
        return True
    try:
        parsed = IPv4Address(address)
    except (AddressValueError, ValueError):
        return False
    return not (parsed.is_loopback or parsed.is_unspecified or parsed.is_link_local or parsed.is_multicast)
