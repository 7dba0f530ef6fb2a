"""Serves what the proxy wants of one address on one minion, for `labctl trace`, which compares it with what the machine has.

    GET /labctl/v1/wanted?minion=minion-1&to=10.247.0.10&port=80&protocol=tcp       or service=NAMESPACE/NAME instead of `to`

Nothing here asks a machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address
from typing import TYPE_CHECKING, Any

import msgspec

from labctl.api.extensions import ExtensionRequest, Extensions
from labctl.errors import ApiError
from labctl.resources.plurals import NETWORK_POLICIES, NODES, SERVICES

if TYPE_CHECKING:
    from labctl.proxy.frontends import Frontend
    from labctl.proxy.proxy import Proxy
    from labctl.reconcile.plan import View

MODES = ("virtual IP", "external address", "node port")


def add_routes(routes: Extensions, view: View, proxy: Proxy) -> None:
    routes.add("GET", "/labctl/v1/wanted", lambda request: _wanted(view, proxy, request))


async def _wanted(view: View, proxy: Proxy, request: ExtensionRequest) -> dict[str, Any]:
    """Answer which Service port the address is, who serves it, and the minion's rules for it as text; `rules` is null while nothing is known of the minion."""
    query = request.query
    minion, protocol, port = query.first("minion"), query.first("protocol").upper() or "TCP", query.integer("port") or 0
    if view.get(NODES, minion) is None:
        names = ", ".join(node.metadata.name for node in view.all(NODES))
        raise ApiError(404, "NotFound", f"there is no minion {minion[:63]!r}: there are {names or 'none'}")
    if protocol not in ("TCP", "UDP", "SCTP"):
        raise ApiError(400, "BadRequest", f"protocol: {protocol[:10]!r} is none of tcp, udp, sctp")
    service, address = query.first("service"), query.first("to")
    frontend, what = (
        _of_service(view, proxy, service, port, protocol) if service else _of_address(view, proxy, _address(address), port, protocol)
    )
    return {
        "minion": minion,
        "to": frontend.address if frontend and service else address,
        "port": port or (frontend.port if frontend else 0),
        "protocol": protocol.lower(),
        "what": what,
        "frontend": msgspec.to_builtins(frontend) if frontend else None,
        "rules": proxy.wanted(minion, frontend.service if frontend else ""),
        "programmed": proxy.programmed(frontend.service).get(minion, False) if frontend else True,
        "mode": proxy.settings.mode,
        "flavour": proxy.settings.flavour,
        "policies": sum(1 for _ in view.all(NETWORK_POLICIES)),
    }


def _address(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except (AddressValueError, ValueError):
        raise ApiError(400, "BadRequest", f"{text[:60]!r} is no IPv4 address") from None


def _of_service(view: View, proxy: Proxy, key: str, port: int, protocol: str) -> tuple[Frontend, str]:
    service = view.get(SERVICES, key)
    if service is None:
        raise ApiError(404, "NotFound", f'services "{key.rpartition("/")[2]}" not found in namespace {key.partition("/")[0]}')
    if service.spec.type == "ExternalName":
        raise ApiError(400, "BadRequest", f"Service {key} is another name for {service.spec.external_name}: no rule is about it")
    if service.spec.headless:
        raise ApiError(400, "BadRequest", f"Service {key} is headless: its clients connect to its pods themselves, and no rule is about it")
    ports = [one for one in _frontends(proxy) if one.service == key]
    found = next((one for one in ports if one.protocol == protocol and port in (0, one.port)), None)
    if found is None:
        there = ", ".join(f"{one.port}/{one.protocol.lower()}" for one in ports)
        raise ApiError(404, "NotFound", f"Service {key} has no port {port or ''}/{protocol.lower()}: it has {there or 'none'}")
    return found, "virtual IP"


def _of_address(view: View, proxy: Proxy, address: str, port: int, protocol: str) -> tuple[Frontend | None, str]:
    """Find whose the address is. Several Service ports may have it: without a port the first one is meant."""
    own = {node.address() for node in view.all(NODES)}
    for one in _frontends(proxy):
        if one.protocol != protocol:
            continue
        if one.address == address and port in (0, one.port):
            return one, "virtual IP"
        if address in one.external_addresses and port in (0, one.port):
            return one, "external address"
        if one.node_port and address in own and port == one.node_port:
            return one, "node port"
    return None, "address of a minion" if address in own else "no Service's"


def _frontends(proxy: Proxy) -> Iterator[Frontend]:
    from labctl.proxy.frontends import Frontend

    return (entry for entries in proxy.table.values() for entry in entries if isinstance(entry, Frontend))
