"""Liveness: each Service's endpoints are all of its ready pods, and no dead ones. Endpoints and EndpointSlices agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labctl.resources.client import Client
from labctl.resources.plurals import SLICES
from labctl.sim.fleet import Fleet


def wrong(client: Client, fleet: Fleet) -> Iterator[str]:
    alive = {pod.ip for node in fleet.nodes.values() for pod in node.running.values()}
    for service in client.list("services"):
        if not service.spec.selector:
            continue
        key = service.metadata.key
        ready = {pod.status.pod_ip for pod in _selected(client, service) if pod.ready and pod.active}
        endpoints = client.get("endpoints", key)
        listed = {a.ip for subset in endpoints.subsets for a in subset.addresses} if endpoints else set()
        sliced = _sliced(client, key)
        if listed != ready:
            yield f"endpoints of {key}: {sorted(listed)} stand there, {sorted(ready)} are ready"
        if sliced != ready:
            yield f"endpointslices of {key}: {sorted(sliced)} stand there, {sorted(ready)} are ready"
        for dead in sorted((listed | sliced) - alive):
            yield f"service {key} sends to {dead}, where nothing runs"


def _selected(client: Client, service: Any) -> Iterator[Any]:
    wanted = service.spec.selector.items()
    return (pod for pod in client.list("pods", service.metadata.namespace) if wanted <= pod.metadata.labels.items())


def _sliced(client: Client, key: str) -> set[str]:
    namespace, _, name = key.partition("/")
    return {
        endpoint.addresses[0]
        for piece in client.list(SLICES, namespace, f"kubernetes.io/service-name={name}")
        for endpoint in piece.endpoints
        if endpoint.conditions.ready
    }
