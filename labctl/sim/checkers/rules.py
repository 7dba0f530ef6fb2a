"""Liveness: a packet to a Service's virtual address reaches exactly its ready endpoints, by the rules of each minion. Packets go through the real rules, by
the same tracer that `labctl trace` uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from labctl.proxy.matches import Packet, World
from labctl.proxy.tracer import Tables, trace
from labctl.resources.client import Client
from labctl.resources.plurals import SLICES
from labctl.sim.helpers import FakeHelpers

TRIES = 24  # packets for each endpoint: that one of eight is missed by chance happens once in 10^9
SOURCE = "10.200.0.77"  # a pod that is no endpoint
MAX_ENDPOINTS = 32  # of a Service that is tried by packets


def wrong(client: Client, helpers: FakeHelpers, nodes: Mapping[str, str]) -> Iterator[str]:
    """Yield each minion and Service whose packets end elsewhere than at the ready endpoints. `nodes` are the minions' addresses."""
    for name, helper in sorted(helpers.minions.items()):
        if not helper.connected:
            continue
        tables = Tables.read(helper.dump())
        for service in client.list("services"):
            ready = _ready(client, service)
            if not service.spec.cluster_ip or service.spec.cluster_ip == "None" or len(ready) > MAX_ENDPOINTS or not service.spec.selector:
                continue
            for port in service.spec.ports:
                reached = _reached(tables, service.spec.cluster_ip, port, nodes.get(name, ""), max(1, len(ready)) * TRIES)
                if reached != ready:
                    yield f"on {name} the rules of {service.metadata.key} reach {sorted(reached)}, and {sorted(ready)} are ready"


def _ready(client: Client, service: Any) -> set[str]:
    pieces = client.list(SLICES, service.metadata.namespace, f"kubernetes.io/service-name={service.metadata.name}")
    return {endpoint.addresses[0] for piece in pieces for endpoint in piece.endpoints if endpoint.conditions.ready}


def _reached(tables: Tables, vip: str, port: Any, local: str, tries: int) -> set[str]:
    world = World(frozenset({local}), Random(1))
    packet = Packet(SOURCE, vip, port.protocol.lower(), port.port, "pod")
    ends = (trace(tables, packet, world) for _ in range(tries))
    return {end.packet.destination for end in ends if end.verdict in ("FORWARD", "LOCAL") and end.packet.translated}
