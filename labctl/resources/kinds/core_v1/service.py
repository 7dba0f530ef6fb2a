"""Service: one fixed virtual IP and port in front of the ready pods its selector finds. The proxy makes it true on every minion."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, Kind, Subresource, Viewed
from labctl.resources.kinds.shared import Condition


class ServicePort(msgspec.Struct, frozen=True, rename="camel", gc=False):
    name: str = ""
    protocol: str = "TCP"
    port: int = 0
    target_port: int | str = 0
    node_port: int = 0
    app_protocol: str = ""


class ClientIP(msgspec.Struct, frozen=True, rename="camel", gc=False):
    timeout_seconds: int = 10800


class SessionAffinityConfig(msgspec.Struct, frozen=True, rename="camel", gc=False):
    client_ip: ClientIP | None = msgspec.field(default=None, name="clientIP")


class ServiceSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")  # an address, "None" (headless), or empty (ExternalName)
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")
    external_ips: tuple[str, ...] = msgspec.field(default=(), name="externalIPs")
    external_name: str = ""
    selector: dict[str, str] = {}
    ports: tuple[ServicePort, ...] = ()
    session_affinity: str = "None"
    session_affinity_config: SessionAffinityConfig | None = None
    publish_not_ready_addresses: bool = False
    external_traffic_policy: str = ""
    internal_traffic_policy: str = ""
    load_balancer_ip: str = msgspec.field(default="", name="loadBalancerIP")

    @property
    def headless(self) -> bool:
        return self.cluster_ip == "None"

    @property
    def affinity_timeout_s(self) -> int:
        """Seconds a client stays with its endpoint; 0 when there is no affinity."""
        if self.session_affinity != "ClientIP":
            return 0
        config = self.session_affinity_config
        return config.client_ip.timeout_seconds if config and config.client_ip else ClientIP().timeout_seconds


class Ingress(msgspec.Struct, frozen=True, rename="camel", gc=False):
    ip: str = ""
    hostname: str = ""


class LoadBalancerStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    ingress: tuple[Ingress, ...] = ()


class ServiceStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    load_balancer: LoadBalancerStatus = LoadBalancerStatus()
    conditions: tuple[Condition, ...] = ()


class Service(Viewed, frozen=True, rename="camel", gc=False):
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


def fields(service: Service) -> Mapping[str, str]:
    return {"spec.clusterIP": service.spec.cluster_ip, "spec.type": service.spec.type}


COLUMNS: tuple[Column, ...] = (NAME, AGE)

KIND = Kind(
    group="",
    version="v1",
    kind="Service",
    plural="services",
    singular="service",
    namespaced=True,
    view=Service,
    short_names=("svc", "se"),
    categories=("all",),
    columns=COLUMNS,
    subresources=(
        Subresource("proxy", ("create", "delete", "get", "patch", "update"), kind="ServiceProxyOptions"),
        Subresource("status", ("get", "patch", "update")),
    ),
    has_status=True,
    fields=fields,
    name_rule="label",
)
