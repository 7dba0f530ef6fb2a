"""Makes rows of records from a Service and its endpoints. Pure functions; the rules are Kubernetes' "DNS-Based Service Discovery", version 1.1.0.

A row is a list as the minions' servers read it (agent/dns/zone.py has the forms). Names in rows are relative to the cluster's domain.

    with a virtual address   A of it; an SRV for each named port; a PTR
    headless                 A or AAAA of each ready endpoint, and of its host name; an SRV for each named port and endpoint; a PTR
    ExternalName             a CNAME

publishNotReadyAddresses is already part of an endpoint's `ready`. An endpoint without a host name is named by its address: 10-246-1-5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from labctl.resources.kinds.core_v1.endpoints import Endpoints
from labctl.resources.kinds.core_v1.service import Service
from labctl.resources.kinds.discovery_v1.endpointslice import EndpointSlice

Row = tuple[str | int, ...]
Rows = tuple[Row, ...]
Found = tuple[str, str, tuple[tuple[str, str, int], ...]]
"""An endpoint: its address, its host name, and its named ports as (name, protocol, number)."""


def service_rows(service: Service, slices: Iterable[EndpointSlice], plain: Endpoints | None) -> Rows:
    """Return a Service's rows. Their order depends only on the records."""
    spec = service.spec
    name = f"{service.metadata.name}.{service.metadata.namespace}.svc"
    if spec.type == "ExternalName":
        return tuple(_external(name, spec.external_name))
    if spec.headless:
        found = list(_slice_endpoints(slices)) or list(_plain_endpoints(plain, spec.publish_not_ready_addresses))
        return tuple(sorted(set(_headless(name, found)), key=str))
    return tuple(_virtual(name, service)) if spec.cluster_ip else ()


def namespace_rows(namespace: str) -> Rows:
    """Return the names of a namespace below which its Services and pods have theirs. They exist, but have no records."""
    return ("", f"{namespace}.svc"), ("", f"{namespace}.pod")


def _external(name: str, target: str) -> Iterator[Row]:
    try:
        address = ip_address(target)
    except ValueError:
        yield "CNAME", name, target.rstrip(".")
    else:
        yield _address_type(target), name, str(address)


def _virtual(name: str, service: Service) -> Iterator[Row]:
    spec = service.spec
    for address in dict.fromkeys((spec.cluster_ip, *spec.cluster_ips)):
        yield _address_type(address), name, address
        yield "PTR", address, name
    for port in spec.ports:
        if port.name:
            yield "SRV", _port_name(port.name, port.protocol, name), port.port, name


def _headless(name: str, endpoints: Iterable[Found]) -> Iterator[Row]:
    for address, hostname, ports in endpoints:
        host = f"{hostname or address.replace('.', '-').replace(':', '-')}.{name}"
        yield _address_type(address), name, address
        yield _address_type(address), host, address
        yield "PTR", address, host
        for port, protocol, number in ports:
            yield "SRV", _port_name(port, protocol, name), number, host


def _slice_endpoints(slices: Iterable[EndpointSlice]) -> Iterator[Found]:
    for one in slices:
        if one.address_type == "FQDN":
            continue
        ports = tuple((port.name, port.protocol, port.port) for port in one.ports if port.name and port.port)
        for endpoint in one.endpoints:
            if endpoint.conditions.ready is not False:
                yield from ((address, endpoint.hostname, ports) for address in endpoint.addresses)


def _plain_endpoints(plain: Endpoints | None, not_ready_too: bool) -> Iterator[Found]:
    """Return the endpoints of Endpoints objects, which people write by hand for Services without a selector."""
    for subset in plain.subsets if plain else ():
        ports = tuple((port.name, port.protocol, port.port) for port in subset.ports if port.name)
        for address in subset.addresses + (subset.not_ready_addresses if not_ready_too else ()):
            yield address.ip, address.hostname, ports


def _port_name(port: str, protocol: str, name: str) -> str:
    return f"_{port}._{protocol.lower()}.{name}"


def _address_type(address: str) -> str:
    return "AAAA" if ":" in address else "A"
