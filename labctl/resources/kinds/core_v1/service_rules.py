"""What may stand in a Service's spec, and what becomes of fields that its new type has no use for. Works on dicts after defaults, in Kubernetes' words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from labctl.resources import fields, names
from labctl.resources.addresses import is_ipv4
from labctl.resources.kind import FieldError, Object
from labctl.resources.kinds import status_rules
from labctl.resources.kinds.core_v1.container_rules import PROTOCOLS, port_reference
from labctl.resources.labels import key_errors

WITH_NODE_PORTS = ("NodePort", "LoadBalancer")
_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
PREFER_SAME_NODE = "PreferSameNode"
TRAFFIC_DISTRIBUTIONS = ("PreferClose", PREFER_SAME_NODE, "PreferSameZone")
_MAX_AFFINITY_S = 86400
_KUBELET_PORT = 10250
_IP_MODES = ("Proxy", "VIP")
_SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_ONLY_LOAD_BALANCERS = "may only be used when `type` is 'LoadBalancer'"


def checks_health(spec: Object) -> bool:
    """Tell whether load balancers ask each node how many endpoints of its own it has."""
    return spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _has_address(spec: Object) -> bool:
    return spec["type"] != "ExternalName"


def _has_class(spec: Object) -> bool:
    return spec["type"] == "LoadBalancer"


def _is_external(spec: Object) -> bool:
    """Tell whether clients outside of the lab can reach it."""
    return spec["type"] in WITH_NODE_PORTS or (spec["type"] == "ClusterIP" and bool(spec.get("externalIPs")))


_NEEDED = (
    (_has_address, ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")),
    (_has_class, ("loadBalancerClass", "allocateLoadBalancerNodePorts")),
    (checks_health, ("healthCheckNodePort",)),
    (_is_external, ("externalTrafficPolicy",)),
)
"""Which fields belong to which Services."""


def drop_unneeded(spec: Object, before: Object) -> None:
    """Remove what the Service's new type has no use for and its author did not change: the server may have filled it in. The rest is refused."""
    for needs, names_ in _NEEDED:
        if needs(before) and not needs(spec):
            for name in names_:
                if spec.get(name) == before.get(name):
                    spec.pop(name, None)
    if before["type"] in WITH_NODE_PORTS and spec["type"] not in WITH_NODE_PORTS and _node_ports(spec) == _node_ports(before):
        for port in spec.get("ports") or ():
            port.pop("nodePort", None)


def _node_ports(spec: Object) -> set[int]:
    return {port.get("nodePort", 0) for port in spec.get("ports") or ()}


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec, before = new["spec"], old["spec"] if old else None
    ranges = (new["metadata"].get("annotations") or {}).get(_SOURCE_RANGES)
    if ranges is not None and not spec.get("loadBalancerSourceRanges"):
        yield from _source_ranges(f"metadata.annotations[{_SOURCE_RANGES}]", ranges, is_one=spec["type"] == "LoadBalancer")
    if spec == before:
        return
    if spec["type"] not in _TYPES:
        yield fields.not_supported("spec.type", spec["type"], _TYPES)
    yield from _addresses(spec, before)
    needs_ports = spec["type"] != "ExternalName" and spec.get("clusterIP") != "None"
    if needs_ports and not spec.get("ports"):
        yield fields.required("spec.ports")
    yield from _ports(spec)
    yield from names.labels("spec.selector", spec.get("selector", {}))
    if spec["sessionAffinity"] not in ("None", "ClientIP"):
        yield fields.not_supported("spec.sessionAffinity", spec["sessionAffinity"], ("ClientIP", "None"))
    timeout_s = spec.get("sessionAffinityConfig", {}).get("clientIP", {}).get("timeoutSeconds", 1)
    if not 0 < timeout_s <= _MAX_AFFINITY_S:
        path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        yield fields.invalid(path, timeout_s, f"must be greater than 0 and less than {_MAX_AFFINITY_S}")
    yield from _traffic(spec)
    yield from _load_balancer(spec, before)


def _traffic(spec: Object) -> Iterator[FieldError]:
    inside, outside = spec.get("internalTrafficPolicy"), spec.get("externalTrafficPolicy")
    if inside is not None and inside not in ("Cluster", "Local"):
        yield fields.not_supported("spec.internalTrafficPolicy", inside, ("Cluster", "Local"))
    if outside and not _is_external(spec):
        yield fields.invalid("spec.externalTrafficPolicy", outside, "may only be set for externally-accessible services")
    elif outside and outside not in ("Cluster", "Local"):
        yield fields.not_supported("spec.externalTrafficPolicy", outside, ("Cluster", "Local"))
    if spec.get("healthCheckNodePort") and not checks_health(spec):
        why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        yield fields.invalid("spec.healthCheckNodePort", spec["healthCheckNodePort"], why)
    preferred = spec.get("trafficDistribution")
    if preferred is not None and preferred not in TRAFFIC_DISTRIBUTIONS:
        yield fields.not_supported("spec.trafficDistribution", preferred, TRAFFIC_DISTRIBUTIONS)


def _source_ranges(path: str, said: str, *, is_one: bool) -> Iterator[FieldError]:
    """Validates the annotation that says whom a load balancer answers, where its field says nothing."""
    if not is_one:
        yield fields.forbidden(path, _ONLY_LOAD_BALANCERS)
    for each in said.split(",") if said.strip() else ():
        for why in names.network(each.strip()):
            yield fields.invalid(path, said.strip(), why)


def _load_balancer(spec: Object, before: Object | None) -> Iterator[FieldError]:
    is_one = spec["type"] == "LoadBalancer"
    if spec.get("loadBalancerSourceRanges") and not is_one:
        yield fields.forbidden("spec.loadBalancerSourceRanges", _ONLY_LOAD_BALANCERS)
    for index, each in enumerate(spec.get("loadBalancerSourceRanges", ()) if is_one else ()):
        yield from names.checked(f"spec.loadBalancerSourceRanges[{index}]", each.strip(), names.network)
    class_ = spec.get("loadBalancerClass")
    if before is not None and before["type"] == "LoadBalancer" and is_one and class_ != before.get("loadBalancerClass"):
        yield fields.invalid("spec.loadBalancerClass", class_, "may not change once set")
    if class_ is not None and not is_one:
        yield fields.forbidden("spec.loadBalancerClass", _ONLY_LOAD_BALANCERS)
    elif class_ is not None:
        yield from names.checked("spec.loadBalancerClass", class_, key_errors)
    if spec.get("allocateLoadBalancerNodePorts") is not None and not is_one:
        yield fields.forbidden("spec.allocateLoadBalancerNodePorts", _ONLY_LOAD_BALANCERS)
    for index, port in enumerate(spec.get("ports", ()) if is_one else ()):
        if port.get("port") == _KUBELET_PORT:
            why = f"may not expose port {_KUBELET_PORT} externally since it is used by kubelet"
            yield fields.invalid(f"spec.ports[{index}]", _KUBELET_PORT, why)


# -- addresses -----------------------------------------------------------------------------------------------------------------------------


def _addresses(spec: Object, before: Object | None) -> Iterator[FieldError]:
    if spec["type"] == "ExternalName":
        yield from _no_address(spec)
    else:
        yield from _virtual(spec, before)
        yield from _families(spec)
    for index, external in enumerate(spec.get("externalIPs", ())):
        yield from names.checked(f"spec.externalIPs[{index}]", external, names.outside_address)


def _no_address(spec: Object) -> Iterator[FieldError]:
    """Check a Service that is only a name for another one."""
    if spec.get("clusterIP") or spec.get("clusterIPs"):
        yield fields.forbidden("spec.clusterIPs", "may not be set for ExternalName services")
    for name in ("ipFamilies", "ipFamilyPolicy"):
        if spec.get(name):
            yield fields.forbidden(f"spec.{name}", "may not be set for ExternalName services")
    name = spec.get("externalName", "").removesuffix(".")
    if not name:
        yield fields.required("spec.externalName")
    else:
        yield from names.checked("spec.externalName", name, names.subdomain)


def _virtual(spec: Object, before: Object | None) -> Iterator[FieldError]:
    address: str = spec.get("clusterIP", "")
    said: list[Any] = spec.get("clusterIPs") or ([address] if address else [])
    if address == "None" and spec["type"] != "ClusterIP":
        yield fields.invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {spec['type']} services")
    if said and said[0] == "None" and len(said) > 1:
        yield fields.invalid("spec.clusterIPs", said, "'None' must be the first and only value")
    wrong = [
        error
        for index, each in enumerate(said)
        if index or each != "None"
        for error in names.checked(f"spec.clusterIPs[{index}]", each, names.address)
    ]
    yield from wrong
    if address and said and said[0] != address:
        yield fields.invalid("spec.clusterIPs", said, "first value must match `clusterIP`")
    if len(said) > 2:
        yield fields.invalid("spec.clusterIPs", said, "may only hold up to 2 values")
    elif len(said) == 2 and not wrong and said[0] != "None":
        if is_ipv4(said[0]) == is_ipv4(said[1]):
            yield fields.invalid("spec.clusterIPs", said, "may specify no more than one IP for each IP family")
        else:
            yield fields.invalid("spec.ipFamilies[1]", "IPv6" if is_ipv4(said[0]) else "IPv4", "not configured on this cluster")
    had = (before or {}).get("clusterIP", "")
    if had and address and address != had and before and before["type"] != "ExternalName":
        yield fields.invalid("spec.clusterIPs[0]", [address], "may not change once set")


def _families(spec: Object) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, family in enumerate(spec.get("ipFamilies", ())):
        path = f"spec.ipFamilies[{index}]"
        if family not in _FAMILIES:
            yield fields.not_supported(path, family, _FAMILIES)
        elif family in seen:
            yield fields.duplicate(path, family)
        elif family != "IPv4":
            yield fields.invalid(path, family, "not configured on this cluster")
        seen.add(family)
    policy = spec.get("ipFamilyPolicy")
    if policy == "RequireDualStack":
        yield fields.invalid("spec.ipFamilyPolicy", policy, "this cluster is not configured for dual-stack services")
    elif policy is not None and policy not in _FAMILY_POLICIES:
        yield fields.not_supported("spec.ipFamilyPolicy", policy, _FAMILY_POLICIES)


# -- ports ---------------------------------------------------------------------------------------------------------------------------------


def _ports(spec: Object) -> Iterator[FieldError]:
    port_list = spec.get("ports", ())
    seen: set[tuple[str, int]] = set()
    seen_names: set[str] = set()
    seen_node_ports: set[tuple[str, int]] = set()
    for index, port in enumerate(port_list):
        at, name = f"spec.ports[{index}]", port.get("name", "")
        if name:
            yield from names.checked(f"{at}.name", name, names.label)
            if name in seen_names:
                yield fields.duplicate(f"{at}.name", name)
            seen_names.add(name)
        elif len(port_list) > 1:
            yield fields.required(f"{at}.name")
        yield from _port(at, port, spec["type"])
        key = (port["protocol"], port.get("port", 0))
        if key in seen:
            shown = {"Name": "", "Protocol": key[0], "AppProtocol": None, "Port": key[1], "TargetPort": 0, "NodePort": 0}
            yield fields.duplicate(at, shown)
        seen.add(key)
        node_port = (port["protocol"], port.get("nodePort", 0))
        if node_port[1] and node_port in seen_node_ports:
            yield fields.duplicate(f"{at}.nodePort", node_port[1])
        seen_node_ports.add(node_port)


def _port(at: str, port: Object, type_: str) -> Iterator[FieldError]:
    yield from names.checked(f"{at}.port", port.get("port", 0), names.port)
    if port["protocol"] not in PROTOCOLS:
        yield fields.not_supported(f"{at}.protocol", port["protocol"], PROTOCOLS)
    yield from port_reference(f"{at}.targetPort", port.get("targetPort", 0))
    if port.get("appProtocol") is not None:
        yield from names.checked(f"{at}.appProtocol", port["appProtocol"], key_errors)
    if port.get("nodePort") and type_ not in WITH_NODE_PORTS:
        yield fields.forbidden(f"{at}.nodePort", "may not be used when `type` is 'ClusterIP'")


def _balancers(service: Object) -> Sequence[Object]:
    said: Sequence[Object] = (status_rules.status_of(service).get("loadBalancer") or {}).get("ingress") or ()
    return said


def status_defaults(service: Object) -> None:
    if service["spec"].get("type") == "LoadBalancer":
        for each in _balancers(service):
            if each.get("ip"):
                each.setdefault("ipMode", "VIP")


def status(new: Object, old: Object) -> Iterator[FieldError]:
    """Validate status.loadBalancer, which nodes act upon: they send what is for these addresses to the Service's pods."""
    path, said = "status.loadBalancer.ingress", _balancers(new)
    if said and new["spec"].get("type") != "LoadBalancer":
        yield fields.forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")
        return
    known = [each.get("ip", "") for each in _balancers(old)]
    for index, each in enumerate(said):
        at, mode = f"{path}[{index}]", each.get("ipMode")
        if each.get("ip"):
            yield from status_rules.legacy_address(f"{at}.ip", each["ip"], known)
            if mode not in _IP_MODES:
                yield fields.not_supported(f"{at}.ipMode", mode, _IP_MODES)
        elif mode is not None:
            yield fields.forbidden(f"{at}.ipMode", "may not be specified when `ip` is not set")
        if each.get("hostname"):
            yield from status_rules.host_name(f"{at}.hostname", each["hostname"])
