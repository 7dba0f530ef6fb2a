"""Service: a fixed virtual IP and ports in front of the ready pods that its selector matches. The proxy's rules carry it out on every minion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address

import msgspec

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME, NONE, joined, pairs
from labctl.resources.claims import Ranges, ip_claim, port_claim
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource, TypeDefaults, Viewed
from labctl.resources.kinds.core_v1.container_rules import PROTOCOLS, port_reference
from labctl.resources.kinds.shared import Condition

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_MAX_AFFINITY_S = 86400
PREFER_SAME_NODE = "PreferSameNode"
TRAFFIC_DISTRIBUTIONS = ("PreferClose", PREFER_SAME_NODE, "PreferSameZone")
_WITH_NODE_PORTS = ("NodePort", "LoadBalancer")


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
        _keep_allocated(spec, old["spec"])
    if spec["type"] == "ExternalName":
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            spec.pop(name, None)
        return
    if not spec.get("clusterIP") and spec.get("clusterIPs"):
        spec["clusterIP"] = spec["clusterIPs"][0]


def _keep_allocated(spec: Object, before: Object) -> None:
    if spec["type"] != "ExternalName" and not spec.get("clusterIP") and not spec.get("clusterIPs"):
        for name in ("clusterIP", "clusterIPs"):
            if name in before:
                spec[name] = before[name]
    had = {(port.get("protocol"), port.get("port")): port.get("nodePort", 0) for port in before.get("ports", ())}
    for port in spec.get("ports", ()):
        node_port = had.get((port.get("protocol"), port.get("port")), 0)
        if spec["type"] in _WITH_NODE_PORTS:
            if node_port and not port.get("nodePort"):
                port["nodePort"] = node_port
        elif port.get("nodePort") == node_port:
            port.pop("nodePort", None)  # the Service's old type needed it, the new one does not
    if _checks_health(spec):
        if before.get("healthCheckNodePort") and not spec.get("healthCheckNodePort"):
            spec["healthCheckNodePort"] = before["healthCheckNodePort"]
    elif spec.get("healthCheckNodePort") == before.get("healthCheckNodePort"):
        spec.pop("healthCheckNodePort", None)


def _checks_health(spec: Object) -> bool:
    """Tell whether load balancers ask each node how many endpoints of its own it has."""
    return spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def allocate(new: Object, old: Object | None, ranges: Ranges) -> Iterator[FieldError]:
    """Allocates the virtual IP and the node ports: the requested ones, or free ones if none are requested."""
    spec = new["spec"]
    if spec["type"] == "ExternalName":
        return
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    yield from _allocate_address(spec, ranges)
    if spec["type"] in _WITH_NODE_PORTS and spec.get("allocateLoadBalancerNodePorts", True):
        for index, port in enumerate(spec.get("ports", ())):
            yield from _allocate_port(f"spec.ports[{index}].nodePort", port, ranges)
    if _checks_health(spec):
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


def claims(service: Object) -> Iterator[str]:
    """Returns the claim keys of its virtual IP and its node ports."""
    spec = service["spec"]
    if spec.get("clusterIP") not in ("", "None", None) and spec.get("type") != "ExternalName":
        yield ip_claim(spec["clusterIP"])
    for port in spec.get("ports", ()):
        if port.get("nodePort"):
            yield port_claim(port["nodePort"])
    if spec.get("healthCheckNodePort"):
        yield port_claim(spec["healthCheckNodePort"])


# -- validation


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new["spec"]
    if old is not None and spec == old["spec"]:
        return
    if spec["type"] not in _TYPES:
        yield fields.not_supported("spec.type", spec["type"], _TYPES)
    yield from _validate_addresses(spec, old["spec"] if old else None)
    needs_ports = spec["type"] != "ExternalName" and spec.get("clusterIP") != "None"
    if needs_ports and not spec.get("ports"):
        yield fields.required("spec.ports")
    yield from _validate_ports(spec)
    yield from names.labels("spec.selector", spec.get("selector", {}))
    if spec["sessionAffinity"] not in ("None", "ClientIP"):
        yield fields.not_supported("spec.sessionAffinity", spec["sessionAffinity"], ("ClientIP", "None"))
    timeout_s = spec.get("sessionAffinityConfig", {}).get("clientIP", {}).get("timeoutSeconds", 1)
    if not 0 < timeout_s <= _MAX_AFFINITY_S:
        path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        yield fields.invalid(path, timeout_s, f"must be greater than 0 and less than {_MAX_AFFINITY_S}")
    for name in ("internalTrafficPolicy", "externalTrafficPolicy"):
        if spec.get(name, "Cluster") not in ("Cluster", "Local"):
            yield fields.not_supported(f"spec.{name}", spec[name], ("Cluster", "Local"))
    if spec.get("trafficDistribution") not in (None, *TRAFFIC_DISTRIBUTIONS):
        yield fields.not_supported("spec.trafficDistribution", spec["trafficDistribution"], TRAFFIC_DISTRIBUTIONS)
    yield from _validate_load_balancer(spec, old["spec"] if old else None)


def _validate_load_balancer(spec: Object, before: Object | None) -> Iterator[FieldError]:
    is_one = spec["type"] == "LoadBalancer"
    for name in ("loadBalancerSourceRanges", "loadBalancerClass"):
        if spec.get(name) and not is_one:
            yield fields.forbidden(f"spec.{name}", "may only be used when `type` is 'LoadBalancer'")
    for index, each in enumerate(spec.get("loadBalancerSourceRanges", ()) if is_one else ()):
        yield from names.checked(f"spec.loadBalancerSourceRanges[{index}]", each.strip(), names.network)
    had = (before or {}).get("loadBalancerClass")
    if before is not None and before["type"] == "LoadBalancer" and is_one and spec.get("loadBalancerClass") != had:
        yield fields.invalid("spec.loadBalancerClass", spec.get("loadBalancerClass"), "may not change once set")
    if spec.get("healthCheckNodePort") and not _checks_health(spec):
        why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        yield fields.invalid("spec.healthCheckNodePort", spec["healthCheckNodePort"], why)


def _validate_addresses(spec: Object, before: Object | None) -> Iterator[FieldError]:
    address, addresses = spec.get("clusterIP", ""), spec.get("clusterIPs", [])
    if spec["type"] == "ExternalName":
        yield from names.checked("spec.externalName", spec.get("externalName", "").removesuffix("."), names.subdomain)
    elif address == "None":
        if spec["type"] != "ClusterIP":
            yield fields.invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {spec['type']} services")
    elif address:
        yield from names.checked("spec.clusterIPs[0]", address, names.address)
    if addresses and address and addresses[0] != address:
        yield fields.invalid("spec.clusterIPs", addresses, "first value must match `clusterIP`")
    for index, family in enumerate(spec.get("ipFamilies", ())):
        if family != "IPv4":
            yield fields.invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
    if spec.get("ipFamilyPolicy") == "RequireDualStack":
        yield fields.invalid("spec.ipFamilyPolicy", "RequireDualStack", "this cluster is not configured for dual-stack services")
    had = (before or {}).get("clusterIP", "")
    if had and address and address != had and before and before["type"] != "ExternalName":
        yield fields.invalid("spec.clusterIPs[0]", [address], "may not change once set")
    for index, external in enumerate(spec.get("externalIPs", ())):
        yield from names.checked(f"spec.externalIPs[{index}]", external, names.outside_address)


def _validate_ports(spec: Object) -> Iterator[FieldError]:
    port_list, seen, seen_names = spec.get("ports", ()), set(), set()
    for index, port in enumerate(port_list):
        at, name = f"spec.ports[{index}]", port.get("name", "")
        if name:
            yield from names.checked(f"{at}.name", name, names.label)
            if name in seen_names:
                yield fields.duplicate(f"{at}.name", name)
            seen_names.add(name)
        elif len(port_list) > 1:
            yield fields.required(f"{at}.name")
        yield from names.checked(f"{at}.port", port.get("port", 0), names.port)
        if port["protocol"] not in PROTOCOLS:
            yield fields.not_supported(f"{at}.protocol", port["protocol"], PROTOCOLS)
        yield from port_reference(f"{at}.targetPort", port.get("targetPort", 0))
        if port.get("nodePort") and spec["type"] not in _WITH_NODE_PORTS:
            yield fields.forbidden(f"{at}.nodePort", "may not be used when `type` is 'ClusterIP'")
        key = (port["protocol"], port.get("port", 0))
        if key in seen:
            shown = {"Name": "", "Protocol": key[0], "AppProtocol": None, "Port": key[1], "TargetPort": 0, "NodePort": 0}
            yield fields.duplicate(at, shown)
        seen.add(key)


def warnings(new: Object, old: Object | None) -> Iterator[str]:
    given = new["spec"].get("loadBalancerIP")
    if given and (old is None or old["spec"].get("loadBalancerIP") != given):
        yield "spec.loadBalancerIP is deprecated in Kubernetes; labctl gives the Service this address if it is free and of its range"


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
    if spec["type"] in _WITH_NODE_PORTS or (spec["type"] == "ClusterIP" and spec.get("externalIPs")):
        spec["externalTrafficPolicy"] = spec.get("externalTrafficPolicy") or "Cluster"
    if spec["type"] in ("ClusterIP", *_WITH_NODE_PORTS):
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
        Subresource("status", ("get", "patch", "update")),
    ),
    has_status=True,
    create_on_update=True,
    prepare=prepare,
    validate=validate,
    warnings=warnings,
    allocate=allocate,
    claims=claims,
    acts_on=ACTS_ON,
    fields=selectable,
    name_rule="service",
    returned_when_deleted=True,
    type_defaults=TYPE_DEFAULTS,
)
