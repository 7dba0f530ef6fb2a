"""Ingress: says which Service answers for which host and path. labctl only stores it; an ingress controller in the lab may carry it out.

Kubernetes has no controller for it either: people install one. It is validated by Kubernetes' rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME, joined
from labctl.resources.kind import Column, FieldError, Kind, Object, Viewed
from labctl.resources.kinds import status_rules
from labctl.resources.kinds.core_v1.container_rules import port_reference
from labctl.resources.kinds.networking_v1.ingressclass import object_reference

_OLD_CLASS = "kubernetes.io/ingress.class"
"""The annotation by which people named an IngressClass before there was a field for it."""
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")


class IngressRule(msgspec.Struct, frozen=True, rename="camel", gc=False):
    host: str = ""


class IngressSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    ingress_class_name: str | None = None
    rules: tuple[IngressRule, ...] = ()
    tls: tuple[dict[str, object], ...] = ()


class Address(msgspec.Struct, frozen=True, rename="camel", gc=False):
    ip: str = ""
    hostname: str = ""


class LoadBalancer(msgspec.Struct, frozen=True, rename="camel", gc=False):
    ingress: tuple[Address, ...] = ()


class IngressStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    load_balancer: LoadBalancer = LoadBalancer()


class Ingress(Viewed, frozen=True, rename="camel", gc=False):
    spec: IngressSpec = IngressSpec()
    status: IngressStatus = IngressStatus()


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {"loadBalancer": {}}


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    if old is None:
        yield from _old_class(new["metadata"].get("annotations") or {}, spec.get("ingressClassName"))
    if not spec.get("rules") and not spec.get("defaultBackend"):
        yield fields.invalid("spec", spec.get("rules"), "either `defaultBackend` or `rules` must be specified")
    if spec.get("defaultBackend"):
        yield from _backend("spec.defaultBackend", spec["defaultBackend"])
    for number, rule in enumerate(spec.get("rules") or ()):
        yield from _rule(f"spec.rules[{number}]", rule)
    for number, tls in enumerate(spec.get("tls") or ()):
        for index, host in enumerate(tls.get("hosts") or ()):
            yield from _host(f"spec.tls[{number}].hosts[{index}]", host)
        if tls.get("secretName"):
            yield from names.checked(f"spec.tls[{number}].secretName", tls["secretName"], names.subdomain)
    if spec.get("ingressClassName") is not None:
        yield from names.checked("spec.ingressClassName", spec["ingressClassName"], names.subdomain)


def _old_class(annotations: Object, name: str | None) -> Iterator[FieldError]:
    said = annotations.get(_OLD_CLASS)
    if said is not None and name is not None and said != name:
        yield fields.invalid(f"annotations.{_OLD_CLASS}", said, "must match `ingressClassName` when both are specified")


def _rule(at: str, rule: Object) -> Iterator[FieldError]:
    host = rule.get("host", "")
    if host:
        if not names.address(host):
            yield fields.invalid(f"{at}.host", host, "must be a DNS name, not an IP address")
        yield from _host(f"{at}.host", host)
    if rule.get("http") is None:
        return
    if not rule["http"].get("paths"):
        yield fields.required(f"{at}.http.paths")
    for index, path in enumerate(rule["http"].get("paths") or ()):
        yield from _path(f"{at}.http.paths[{index}]", path)


def _host(at: str, host: str) -> Sequence[FieldError]:
    return names.checked(at, host, names.wildcard if "*" in host else names.subdomain)


def _path(at: str, path: Object) -> Iterator[FieldError]:
    type_, said = path.get("pathType"), path.get("path", "")
    if type_ is None:
        yield fields.required(f"{at}.pathType", "pathType must be specified")
        return
    if type_ not in _PATH_TYPES:
        yield fields.not_supported(f"{at}.pathType", type_, _PATH_TYPES)
    elif not said.startswith("/") and (said or type_ != "ImplementationSpecific"):
        yield fields.invalid(f"{at}.path", said, "must be an absolute path")
    if type_ in ("Exact", "Prefix"):
        for part in ("//", "/./", "/../", "%2f", "%2F"):
            if part in said:
                yield fields.invalid(f"{at}.path", said, f"must not contain '{part}'")
        for end in ("/..", "/."):
            if said.endswith(end):
                yield fields.invalid(f"{at}.path", said, f"cannot end with '{end}'")
    yield from _backend(f"{at}.backend", path.get("backend") or {})


def _backend(at: str, backend: Object) -> Iterator[FieldError]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        yield fields.invalid(at, "", "cannot set both resource and service backends")
    elif resource is not None:
        yield from object_reference(f"{at}.resource", resource)
    elif service is not None:
        yield from _service(at, service)
    else:
        yield fields.invalid(at, "", "resource or service backend is required")


def _service(at: str, service: Object) -> Iterator[FieldError]:
    if not service.get("name"):
        yield fields.required(f"{at}.service.name")
    else:
        yield from names.checked(f"{at}.service.name", service["name"], names.label)
    port = service.get("port") or {}
    if port.get("name") and port.get("number"):
        yield fields.invalid(at, "", "cannot set both port name & port number")
    elif port.get("name") or port.get("number"):
        yield from port_reference(f"{at}.service.port.{'name' if port.get('name') else 'number'}", port.get("name") or port["number"])
    else:
        yield fields.required(at, "port name or number is required")


def _status(new: Object, old: Object) -> Iterator[FieldError]:
    said, before = ((status_rules.status_of(each).get("loadBalancer") or {}).get("ingress") or () for each in (new, old))
    known = [each.get("ip", "") for each in before]
    for index, each in enumerate(said):
        at = f"status.loadBalancer.ingress[{index}]"
        if each.get("ip"):
            yield from status_rules.legacy_address(f"{at}.ip", each["ip"], known)
        if each.get("hostname"):
            yield from status_rules.host_name(f"{at}.hostname", each["hostname"])


def warnings(new: Object, old: Object | None) -> Iterator[str]:
    if old is None:
        if _OLD_CLASS in (new["metadata"].get("annotations") or {}) and not new["spec"].get("ingressClassName"):
            yield f"annotation \"{_OLD_CLASS}\" is deprecated, please use 'spec.ingressClassName' instead"
        yield "an Ingress is stored and nothing carries it out, unless you run an ingress controller in the lab"


def _addresses(ingress: Ingress, _now_s: float) -> str:
    return joined(address.ip or address.hostname for address in ingress.status.load_balancer.ingress)


COLUMNS: tuple[Column, ...] = (
    NAME,
    Column("Class", lambda ingress, _now: ingress.spec.ingress_class_name or "<none>", description="The IngressClass that it belongs to."),
    Column(
        "Hosts", lambda ingress, _now: joined(r.host for r in ingress.spec.rules if r.host) or "*", description="Hosts that it answers for."
    ),
    Column("Address", _addresses, description="Addresses that lead to it."),
    Column("Ports", lambda ingress, _now: "80, 443" if ingress.spec.tls else "80", description="Ports that it listens on."),
    AGE,
)

KIND = Kind(
    group="networking.k8s.io",
    version="v1",
    kind="Ingress",
    plural="ingresses",
    singular="ingress",
    namespaced=True,
    view=Ingress,
    short_names=("ing",),
    columns=COLUMNS,
    subresources=(status_rules.subresource(_status),),
    has_status=True,
    has_generation=True,
    prepare=prepare,
    validate=validate,
    warnings=warnings,
)
