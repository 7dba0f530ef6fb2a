"""What every lab has from its first moment: the four namespaces, the Services `kubernetes`, which leads to the master itself, and `kube-dns`,
a class of storage, and the default roles.

Called at every start of the master. It makes what is missing and mends what points elsewhere (the master's address may have changed); the rest it leaves.
What somebody deletes later (`kubectl delete all --all`), controllers/essentials.py makes again from the same list. The class is
left out there, because somebody who deletes it does not want it. It is made where a master starts and finds no class at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import NamedTuple

from labctl import defaults
from labctl.errors import ApiError
from labctl.resources import requestheader
from labctl.resources.client import Client
from labctl.resources.kind import Object
from labctl.resources.kinds.core_v1.persistentvolume import LOCAL_PROVISIONER
from labctl.resources.kinds.discovery_v1.endpointslice import SERVICE_LABEL
from labctl.resources.kinds.networking_v1.servicecidr import OF_THE_LAB
from labctl.resources.kinds.storage_v1.storageclass import IS_DEFAULT, WAIT
from labctl.resources.plurals import ROLES, SERVICE_RANGES, SLICES, STORAGE_CLASSES
from labctl.resources.rbac.defaults import ensure_roles

NAMESPACES = ("default", "kube-system", "kube-node-lease", "kube-public")
_NAME = "kubernetes"
_DNS_NAME = "kube-dns"
DNS_SERVICE = f"kube-system/{_DNS_NAME}"
STANDARD = "standard"
"""The name of the class whose volumes are folders on the minions' disks."""


@dataclass(frozen=True)
class BootstrapSettings:
    address: str = ""  # the master's in the lab's network; empty: no machine will ever ask (minions=0)
    port: int = 6443
    service_port: int = 443
    dns_address: str = ""  # the virtual address that pods ask for names; empty: there are no pods
    client_ca: str = ""  # PEM: of clients' certificates; empty: no server may stand behind this API
    front_proxy_ca: str = ""  # PEM: of the certificate by which such servers know this API


class Essential(NamedTuple):
    """An object that every lab has. If it exists already, the parts that `enforced` names are set to the values here."""

    resource: str
    object: Object
    enforced: tuple[str, ...] = ()
    optional: bool = False  # the lab goes on without it when it is refused

    @property
    def key(self) -> str:
        metadata = self.object["metadata"]
        return f"{metadata['namespace']}/{metadata['name']}" if "namespace" in metadata else str(metadata["name"])


_STANDARD_CLASS = Essential(
    STORAGE_CLASSES,
    {
        "metadata": {"name": STANDARD, "annotations": {IS_DEFAULT[0]: "true"}},
        "provisioner": LOCAL_PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": WAIT,
    },
)


def essentials(settings: BootstrapSettings, service_range: str) -> list[Essential]:
    """Returns the objects in the order in which they are created."""
    made = [Essential("namespaces", {"metadata": {"name": name}}) for name in NAMESPACES]
    made.append(Essential(SERVICE_RANGES, {"metadata": {"name": OF_THE_LAB}, "spec": {"cidrs": [str(IPv4Network(service_range))]}}))
    made.append(Essential("services", _service(settings, service_range), ("spec",)))
    if settings.address:
        made.append(Essential("endpoints", _endpoints(settings), ("subsets",)))
        made.append(Essential(SLICES, _slice(settings), ("endpoints", "ports")))
    if settings.dns_address:
        made.append(Essential("services", _dns_service(settings.dns_address), optional=True))  # its address may be another Service's
    if settings.front_proxy_ca:
        made.append(Essential("configmaps", requestheader.config(settings.client_ca, settings.front_proxy_ca), ("data",)))
        made.append(Essential(ROLES, requestheader.reader()))
    return made


async def ensure_bootstrap(client: Client, settings: BootstrapSettings) -> None:
    wanted = essentials(settings, client.resources.settings.service_range)
    if not client.list(STORAGE_CLASSES):
        wanted.append(_STANDARD_CLASS)
    for essential in wanted:
        try:
            await client.create(essential.resource, essential.object)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                if essential.optional:
                    continue
                raise
            if essential.enforced:
                await client.patch(essential.resource, essential.key, {part: essential.object[part] for part in essential.enforced})
    await ensure_roles(client)


def _service(settings: BootstrapSettings, service_range: str) -> Object:
    address = str(IPv4Network(service_range)[1])
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


def _dns_service(address: str) -> Object:
    """Return the Service of the DNS servers. controllers/clusterdns.py makes its endpoints: each node, for its own pods."""
    labels = {"k8s-app": _DNS_NAME, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "labctl-dns"}
    ports = [
        {"name": name, "port": 53, "protocol": protocol, "targetPort": defaults.DNS_PORT}
        for name, protocol in (("dns", "UDP"), ("dns-tcp", "TCP"))
    ]
    return {
        "metadata": {"name": _DNS_NAME, "namespace": "kube-system", "labels": labels},
        "spec": {"type": "ClusterIP", "clusterIP": address, "internalTrafficPolicy": "Local", "ports": ports},
    }
