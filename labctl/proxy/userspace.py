"""Userspace mode: which local port a Service port has, and what a minion's forwarder is told.

The master draws the ports, one per Service port for all minions, and keeps them in an annotation of the Service: they are the same after every restart,
and go with their Service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any

import msgspec

from labctl.decoding import from_json
from labctl.proxy.frontends import Backend, Frontend
from labctl.proxy.rules import Entry, Facts, Table
from labctl.proxy.settings import ProxySettings
from labctl.resources.kinds.core_v1.service import Service

ANNOTATION = "labctl.internal/local-ports"


def local_ports(service: Service) -> dict[str, int]:
    """Return `name/PROTOCOL` -> port from the annotation. A malformed annotation is ignored."""
    try:
        return from_json(service.metadata.annotations.get(ANNOTATION, "{}"), dict[str, int])
    except msgspec.MsgspecError:
        return {}


def with_local_ports(service: Service, frontends: tuple[Frontend, ...]) -> tuple[Frontend, ...]:
    drawn = local_ports(service)
    return tuple(msgspec.structs.replace(f, local_port=drawn.get(f"{f.name}/{f.protocol}", 0)) for f in frontends)


def draw(service: Service, taken: Callable[[int], bool], rng: Random, settings: ProxySettings) -> dict[str, int] | None:
    """Return the Service's ports; those that are missing, or shared with another Service, are drawn. None if nothing is missing.

    If the range is full, a port is 0: it is not served.
    """
    if service.spec.headless or not service.spec.cluster_ip:
        return None
    had = local_ports(service)
    wanted: dict[str, int] = {}
    for port in service.spec.ports:
        key = f"{port.name}/{port.protocol}"
        kept = had.get(key, 0)
        wanted[key] = kept if kept and not taken(kept) else _draw_one(lambda n: taken(n) or n in wanted.values(), rng, settings)
    return None if wanted == had else wanted


def _draw_one(taken: Callable[[int], bool], rng: Random, settings: ProxySettings) -> int:
    count = settings.local_port_last - settings.local_port_first + 1
    start = rng.randrange(count)
    return next((port for n in range(count) if not taken(port := settings.local_port_first + (start + n) % count)), 0)


def ports(table: Table, facts: Facts) -> list[dict[str, Any]]:
    """Return the parameters of the helper's `forward`: where to listen, and which endpoints serve."""
    if not facts.userspace:
        return []
    return [
        {
            "id": _id(frontend),
            "protocol": frontend.protocol,
            "address": facts.address,
            "port": frontend.local_port,
            "backends": [[b.address, b.port] for b in _serving(frontend, facts)],
            "affinityS": frontend.affinity_s,
        }
        for frontends in table.values()
        for frontend in frontends
        if isinstance(frontend, Frontend) and frontend.local_port and frontend.protocol in ("TCP", "UDP")
    ]


def _serving(frontend: Frontend, facts: Facts) -> tuple[Backend, ...]:
    """Return the endpoints that serve the clients of one port.

    The virtual address and a node port share the port, so internalTrafficPolicy counts only if there is no node port.
    """
    only_inside = not frontend.node_port and not frontend.external_addresses
    return frontend.near(facts.node) if frontend.internal_local and only_inside else frontend.close(facts.node, facts.zone)


def failures(failed: Mapping[str, str], table: Table) -> tuple[tuple[str, str], ...]:
    """Return (Service key, sentence) for each port on which a forwarder could not listen."""
    return tuple(
        (key, f"the forwarder can't listen on port {frontend.local_port}: {failed[_id(frontend)]}")
        for key, frontends in table.items()
        for frontend in frontends
        if isinstance(frontend, Frontend) and _id(frontend) in failed
    )


def ids(entries: Iterable[Entry]) -> set[str]:
    return {_id(entry) for entry in entries if isinstance(entry, Frontend)}


def _id(frontend: Frontend) -> str:
    return f"{frontend.id}/{frontend.protocol}"
