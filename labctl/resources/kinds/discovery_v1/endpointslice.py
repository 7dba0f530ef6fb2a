"""EndpointSlice: a limited number of the addresses behind a Service. `kubectl describe service` and the proxy read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from labctl.resources import fields, names
from labctl.resources.addresses import is_ipv4
from labctl.resources.cells import AGE, NAME, first_three
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults, Viewed
from labctl.resources.kinds.core_v1.container_rules import PROTOCOLS
from labctl.resources.kinds.shared import ObjectReference
from labctl.resources.labels import key_errors, value_errors

_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_MAX_ENDPOINTS = 1000
_MAX_ADDRESSES = 100
_MAX_PORTS = 20_000
_MAX_HINTS = 8
SERVICE_LABEL = "kubernetes.io/service-name"
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"


class EndpointConditions(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The conditions of an endpoint. None means unknown, which counts as ready and as not terminating."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Named(msgspec.Struct, frozen=True, gc=False):
    name: str = ""


class EndpointHints(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """From where this endpoint is to be reached, by preference (KEP-2433, KEP-3015)."""

    for_zones: tuple[Named, ...] = ()
    for_nodes: tuple[Named, ...] = ()


class Endpoint(msgspec.Struct, frozen=True, rename="camel", gc=False):
    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    node_name: str = ""
    zone: str = ""
    target_ref: ObjectReference | None = None
    hints: EndpointHints | None = None


class SlicePort(msgspec.Struct, frozen=True, rename="camel", gc=False):
    name: str = ""
    port: int | None = None
    protocol: str = "TCP"
    app_protocol: str = ""


class EndpointSlice(Viewed, frozen=True, rename="camel", gc=False):
    address_type: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[SlicePort, ...] = ()

    @property
    def service(self) -> str:
        """Return the name of the Service it belongs to, from its label."""
        return self.metadata.labels.get(SERVICE_LABEL, "")


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    type_ = new.get("addressType", "")
    if not type_:
        yield fields.required("addressType")
    elif type_ not in _ADDRESS_TYPES:
        yield fields.not_supported("addressType", type_, _ADDRESS_TYPES)
    if old is not None and type_ != old.get("addressType"):
        yield fields.invalid("addressType", type_, "field is immutable")
    if len(new.get("endpoints", ())) > _MAX_ENDPOINTS:
        yield fields.too_many("endpoints", len(new["endpoints"]), _MAX_ENDPOINTS)
    if old is None or new.get("endpoints") != old.get("endpoints"):
        for index, endpoint in enumerate(new.get("endpoints", ())):
            yield from _endpoint(f"endpoints[{index}]", type_, endpoint)
    if old is None or new.get("ports") != old.get("ports"):
        yield from _ports(new.get("ports", ()))


def _endpoint(path: str, type_: str, endpoint: Object) -> Iterator[FieldError]:
    addresses = endpoint.get("addresses") or ()
    if not addresses:
        yield fields.required(f"{path}.addresses", "must contain at least 1 address")
    elif len(addresses) > _MAX_ADDRESSES:
        yield fields.too_many(f"{path}.addresses", len(addresses), _MAX_ADDRESSES)
    for position, address in enumerate(addresses[:_MAX_ADDRESSES]):
        at = f"{path}.addresses[{position}]"
        if type_ == "FQDN":
            yield from _full_name(at, address)
        elif errors := names.outside_address(address):
            yield from (fields.invalid(at, address, why) for why in errors)
        elif type_ in ("IPv4", "IPv6") and is_ipv4(address) != (type_ == "IPv4"):
            yield fields.invalid(at, address, f"must be an {type_} address")
    if endpoint.get("hostname"):
        yield from names.checked(f"{path}.hostname", endpoint["hostname"], names.label)
    if endpoint.get("nodeName"):
        yield from names.checked(f"{path}.nodeName", endpoint["nodeName"], names.subdomain)
    for part in ("forZones", "forNodes"):
        yield from _hints(f"{path}.hints.{part}", (endpoint.get("hints") or {}).get(part) or (), part == "forZones")


def _full_name(path: str, name: str) -> Iterator[FieldError]:
    """Check a domain with all its parts; it may end in a dot."""
    plain = name.removesuffix(".")
    if not name:
        yield fields.required(path)
    elif wrong := names.subdomain(plain):
        yield from (fields.invalid(path, plain, why) for why in wrong)
    elif "." not in plain:
        yield fields.invalid(path, plain, "should be a domain with at least two segments separated by dots")
    else:
        yield from (fields.invalid(path, label, why) for label in plain.split(".") for why in names.label(label))


def _hints(path: str, hints: Sequence[Object], zones: bool) -> Iterator[FieldError]:
    """Check which zones, or nodes, an endpoint is meant for."""
    if len(hints) > _MAX_HINTS:
        yield fields.too_many(path, len(hints), _MAX_HINTS)
        return
    seen: set[str] = set()
    for index, hint in enumerate(hints):
        at, name = f"{path}[{index}].name", hint.get("name", "")
        if name in seen:
            yield fields.duplicate(at, name)
        else:
            yield from names.checked(at, name, value_errors if zones else names.subdomain)
        seen.add(name)


def _ports(ports: Sequence[Object]) -> Iterator[FieldError]:
    """Check the ports; a port without a number means each one."""
    if len(ports) > _MAX_PORTS:
        yield fields.too_many("ports", len(ports), _MAX_PORTS)
        return
    seen: set[str] = set()
    for index, port in enumerate(ports):
        at, name = f"ports[{index}]", port.get("name", "")
        if name:
            yield from names.checked(f"{at}.name", name, names.label)
        if name in seen:
            yield fields.duplicate(f"{at}.name", name)
        seen.add(name)
        if port.get("port") is not None:
            yield from names.checked(f"{at}.port", port["port"], names.port)
        if port.get("protocol", "TCP") not in PROTOCOLS:
            yield fields.not_supported(f"{at}.protocol", port["protocol"], PROTOCOLS)
        if port.get("appProtocol") is not None:
            yield from names.checked(f"{at}.appProtocol", port["appProtocol"], key_errors)


def ports(slice_: EndpointSlice, _now_s: float) -> str:
    return first_three([str(port.port) if port.port is not None else port.name or "*" for port in slice_.ports]) or "<unset>"


def endpoints(slice_: EndpointSlice, _now_s: float) -> str:
    return first_three([address for endpoint in slice_.endpoints for address in endpoint.addresses]) or "<unset>"


COLUMNS: tuple[Column, ...] = (
    NAME,
    Column("AddressType", lambda slice_, _now: slice_.address_type, description="IPv4, IPv6 or FQDN."),
    Column("Ports", ports, description="Ports of the endpoints."),
    Column("Endpoints", endpoints, description="Addresses of the endpoints."),
    AGE,
)

KIND = Kind(
    group="discovery.k8s.io",
    version="v1",
    kind="EndpointSlice",
    plural="endpointslices",
    singular="endpointslice",
    namespaced=True,
    view=EndpointSlice,
    validate=validate,
    columns=COLUMNS,
    type_defaults={"io.k8s.api.discovery.v1.EndpointPort": TypeDefaults(absent={"name": "", "protocol": "TCP"})},
)
