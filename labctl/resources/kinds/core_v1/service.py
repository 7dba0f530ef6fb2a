"""Service: a fixed virtual IP and ports in front of the ready pods that its selector matches. The proxy's rules carry it out on every minion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address

import msgspec

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME, NONE, joined, pairs
from labctl.resources.claims import Ranges, ip_claim, port_claim
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource, TypeDefaults, Viewed
from labctl.resources.kinds import status_rules
from labctl.resources.kinds.core_v1 import service_rules
from labctl.resources.kinds.core_v1.service_rules import WITH_NODE_PORTS, checks_health
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
    traffic_distribution: str = ""
    load_balancer_ip: str = msgspec.field(default="", name="loadBalancerIP")
    load_balancer_class: str = ""
    load_balancer_source_ranges: tuple[str, ...] = ()
    health_check_node_port: int = 0

    @property
    def headless(self) -> bool:
        return self.cluster_ip == "None"

    @property
    def affinity_timeout_s(self) -> int:
        """Return for how many seconds a client keeps its endpoint; 0 if there is no affinity."""
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


def selectable(service: Service) -> Mapping[str, str]:
    return {"spec.clusterIP": service.spec.cluster_ip, "spec.type": service.spec.type}


# -- virtual IPs and node ports


def prepare(new: Object, old: Object | None) -> None:
    """Keeps the allocated address and ports while the Service's type needs them, even if a PUT or patch leaves them out."""
    spec = new["spec"]
    if old is None:
        new["status"] = {"loadBalancer": {}}
    else:
        service_rules.drop_unneeded(spec, old["spec"])
        _keep_allocated(spec, old["spec"])
    if not spec.get("clusterIP") and spec.get("clusterIPs"):
        spec["clusterIP"] = spec["clusterIPs"][0]


def _keep_allocated(spec: Object, before: Object) -> None:
    if spec["type"] != "ExternalName" and not spec.get("clusterIP") and not spec.get("clusterIPs"):
        for name in ("clusterIP", "clusterIPs"):
            if name in before:
                spec[name] = before[name]
    if spec["type"] in WITH_NODE_PORTS:
        had = {(port.get("protocol"), port.get("port")): port.get("nodePort", 0) for port in before.get("ports", ())}
        for port in spec.get("ports", ()):
            node_port = had.get((port.get("protocol"), port.get("port")), 0)
            if node_port and not port.get("nodePort"):
                port["nodePort"] = node_port
    if checks_health(spec) and before.get("healthCheckNodePort") and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = before["healthCheckNodePort"]


def allocate(new: Object, old: Object | None, ranges: Ranges) -> Iterator[FieldError]:
    """Allocates the virtual IP and the node ports: the requested ones, or free ones if none are requested."""
    spec = new["spec"]
    if spec["type"] == "ExternalName":
        return
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    yield from _allocate_address(spec, ranges)
    if spec["type"] in WITH_NODE_PORTS and spec.get("allocateLoadBalancerNodePorts", True):
        yield from _allocate_ports(spec, ranges)
    if checks_health(spec):
        yield from _allocate_port("spec.healthCheckNodePort", spec, ranges, "healthCheckNodePort")


def _allocate_address(spec: Object, ranges: Ranges) -> Iterator[FieldError]:
    wanted = spec.get("clusterIP", "")
    if wanted == "None":
        spec["clusterIPs"] = ["None"]
        return
    if wanted and ip_address(wanted) not in ranges.network:
        why = f"the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {ranges.network}"
    else:
        given = ranges.address(wanted)
        if given is not None:
            spec["clusterIP"], spec["clusterIPs"] = given, [given]
            return
        why = "provided IP is already allocated" if wanted else "range is full"
    yield fields.invalid("spec.clusterIPs", [wanted] if wanted else [], f"failed to allocate IP {wanted}: {why}".replace(" :", ":"))


def _allocate_ports(spec: Object, ranges: Ranges) -> Iterator[FieldError]:
    """Allocates the node ports. A port that is there for several protocols, as that of DNS, has one node port for all of them."""
    given = {port["port"]: port["nodePort"] for port in spec.get("ports", ()) if port.get("nodePort") and "port" in port}
    for index, port in enumerate(spec.get("ports", ())):
        if not port.get("nodePort") and port.get("port") in given:
            port["nodePort"] = given[port["port"]]
        yield from _allocate_port(f"spec.ports[{index}].nodePort", port, ranges)
        given.setdefault(port.get("port"), port.get("nodePort", 0))


def _allocate_port(path: str, port: Object, ranges: Ranges, field: str = "nodePort") -> Iterator[FieldError]:
    wanted = port.get(field, 0)
    if wanted and wanted not in ranges.ports:
        span = f"{ranges.ports[0]}-{ranges.ports[-1]}"
        yield fields.invalid(path, wanted, f"provided port is not in the valid range. The range of valid ports is {span}")
        return
    given = ranges.port(wanted)
    if given is None:
        yield fields.invalid(path, wanted, "provided port is already allocated" if wanted else "range is full")
    else:
        port[field] = given


def claims(service: Object) -> Iterable[str]:
    """Returns the claim keys of its virtual IP and its node ports, each once: several protocols may share a node port."""
    return dict.fromkeys(_claims(service))


def _claims(service: Object) -> Iterator[str]:
    spec = service["spec"]
    if spec.get("clusterIP") not in ("", "None", None) and spec.get("type") != "ExternalName":
        yield ip_claim(spec["clusterIP"])
    for port in spec.get("ports", ()):
        if port.get("nodePort"):
            yield port_claim(port["nodePort"])
    if spec.get("healthCheckNodePort"):
        yield port_claim(spec["healthCheckNodePort"])


_HINTS = "service.kubernetes.io/topology-aware-hints"


def warnings(new: Object, old: Object | None) -> Iterator[str]:
    yield from _kubernetes_warnings(new["metadata"].get("annotations") or {}, new["spec"])
    given = new["spec"].get("loadBalancerIP")
    if given and (old is None or old["spec"].get("loadBalancerIP") != given):
        yield "spec.loadBalancerIP is deprecated in Kubernetes; labctl gives the Service this address if it is free and of its range"


def _kubernetes_warnings(annotations: Object, spec: Object) -> Iterator[str]:
    named, headless = spec.get("type") == "ExternalName", spec.get("type", "ClusterIP") == "ClusterIP" and spec.get("clusterIP") == "None"
    if _HINTS in annotations:
        yield f"annotation {_HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"
    if headless:
        if spec.get("loadBalancerIP"):
            yield "spec.loadBalancerIP is ignored for headless services"
        if spec.get("externalIPs"):
            yield "spec.externalIPs is ignored for headless services"
        if spec.get("sessionAffinity", "None") != "None":
            yield "spec.SessionAffinity is ignored for headless services"
    elif spec.get("externalIPs") and not named:
        yield "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
    if named and spec.get("externalIPs"):
        yield 'spec.externalIPs is ignored when spec.type is "ExternalName"'
    if not named and spec.get("externalName"):
        yield 'spec.externalName is ignored when spec.type is not "ExternalName"'
    if spec.get("trafficDistribution") == "PreferClose":
        yield 'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'


# -- what `kubectl get services` shows


def external(service: Service, _now_s: float) -> str:
    spec = service.spec
    if spec.type == "ExternalName":
        return spec.external_name
    addresses = [*(ingress.ip or ingress.hostname for ingress in service.status.load_balancer.ingress), *spec.external_ips]
    return joined(addresses) or ("<pending>" if spec.type == "LoadBalancer" else NONE)


def ports(service: Service, _now_s: float) -> str:
    return joined(f"{p.port}:{p.node_port}/{p.protocol}" if p.node_port else f"{p.port}/{p.protocol}" for p in service.spec.ports) or NONE


ACTS_ON = frozenset(
    f"spec.{name}"
    for name in (
        "allocateLoadBalancerNodePorts",
        "clusterIP",
        "clusterIPs",
        "externalIPs",
        "externalName",
        "externalTrafficPolicy",
        "healthCheckNodePort",
        "internalTrafficPolicy",
        "ipFamilies",
        "ipFamilyPolicy",
        "loadBalancerClass",
        "loadBalancerIP",
        "loadBalancerSourceRanges",
        "ports.name",
        "ports.nodePort",
        "ports.port",
        "ports.protocol",
        "ports.targetPort",
        "publishNotReadyAddresses",
        "selector",
        "sessionAffinity",
        "trafficDistribution",
        "sessionAffinityConfig",
        "type",
    )
)

COLUMNS: tuple[Column, ...] = (
    NAME,
    Column("Type", lambda service, _now: service.spec.type, description="How the Service is exposed."),
    Column("Cluster-IP", lambda service, _now: service.spec.cluster_ip or NONE, description="Its virtual IP."),
    Column("External-IP", external, description="Addresses outside that lead to it."),
    Column("Port(s)", ports, description="Its ports, and the node ports that lead there."),
    AGE,
    Column("Selector", lambda service, _now: pairs(service.spec.selector), priority=1, description="Which pods are behind it."),
)


def port_defaults(port: Object) -> None:
    if not port.get("targetPort") and "port" in port:
        port["targetPort"] = port["port"]


def spec_defaults(spec: Object) -> None:
    if spec["sessionAffinity"] == "ClientIP":
        client_ip = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        client_ip.setdefault("timeoutSeconds", 10800)
    elif spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    if spec["type"] in WITH_NODE_PORTS or (spec["type"] == "ClusterIP" and spec.get("externalIPs")):
        spec["externalTrafficPolicy"] = spec.get("externalTrafficPolicy") or "Cluster"
    if spec["type"] in ("ClusterIP", *WITH_NODE_PORTS):
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)


TYPE_DEFAULTS: Mapping[str, TypeDefaults] = {
    "io.k8s.api.core.v1.Service": TypeDefaults(absent={"spec": {}}),
    "io.k8s.api.core.v1.ServiceSpec": TypeDefaults(zero={"sessionAffinity": "None", "type": "ClusterIP"}, function=spec_defaults),
    "io.k8s.api.core.v1.ServicePort": TypeDefaults(zero={"protocol": "TCP"}, function=port_defaults),
}

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
        status_rules.subresource(service_rules.status, defaults=service_rules.status_defaults),
    ),
    has_status=True,
    create_on_update=True,
    prepare=prepare,
    validate=service_rules.validate,
    warnings=warnings,
    allocate=allocate,
    claims=claims,
    acts_on=ACTS_ON,
    fields=selectable,
    name_rule="label",
    returned_when_deleted=True,
    type_defaults=TYPE_DEFAULTS,
)
