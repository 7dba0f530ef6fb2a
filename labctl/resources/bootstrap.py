"""What every lab has from its first moment: the four namespaces, and Service `kubernetes`, which leads to the master itself.

Called at every start of the master. It makes what is missing and mends what points elsewhere (the master's address may have changed); the rest it leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network

from labctl.errors import ApiError
from labctl.resources.client import Client
from labctl.resources.kind import Object
from labctl.resources.kinds.discovery_v1.endpointslice import SERVICE_LABEL

NAMESPACES = ("default", "kube-system", "kube-node-lease", "kube-public")
_NAME = "kubernetes"


@dataclass(frozen=True)
class BootstrapSettings:
    address: str = ""  # the master's in the lab's network; empty: no machine will ever ask (minions=0)
    port: int = 6443
    service_port: int = 443


async def ensure_bootstrap(client: Client, settings: BootstrapSettings) -> None:
    for name in NAMESPACES:
        await _ensure(client, "namespaces", {"metadata": {"name": name}})
    await _ensure(client, "services", _service(client, settings), part="spec")
    if settings.address:
        await _ensure(client, "endpoints", _endpoints(settings), part="subsets")
        await _ensure(client, "endpointslices.discovery.k8s.io", _slice(settings), part="endpoints")


async def _ensure(client: Client, resource: str, obj: Object, part: str = "") -> None:
    """Make it; where it is there already, `part` of it is made ours."""
    try:
        await client.create(resource, obj)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
        if part:
            ours = {name: value for name, value in obj.items() if name in (part, "ports")}
            await client.patch(resource, f"{obj['metadata']['namespace']}/{obj['metadata']['name']}", ours)


def _service(client: Client, settings: BootstrapSettings) -> Object:
    address = str(IPv4Network(client.resources.settings.service_range)[1])
    port = {"name": "https", "protocol": "TCP", "port": settings.service_port, "targetPort": settings.port}
    return {
        "metadata": {"name": _NAME, "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": address, "ports": [port]},
    }


def _endpoints(settings: BootstrapSettings) -> Object:
    port = {"name": "https", "port": settings.port, "protocol": "TCP"}
    return {
        "metadata": {"name": _NAME, "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": settings.address}], "ports": [port]}],
    }


def _slice(settings: BootstrapSettings) -> Object:
    return {
        "metadata": {"name": _NAME, "namespace": "default", "labels": {SERVICE_LABEL: _NAME}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [settings.address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": settings.port, "protocol": "TCP"}],
    }
