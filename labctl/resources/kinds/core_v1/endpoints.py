"""Endpoints: the addresses behind a Service, as one object. Kept beside EndpointSlice because kubectl and people still read it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME, NONE, first_three
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults, Viewed
from labctl.resources.kinds.core_v1.container_rules import PROTOCOLS
from labctl.resources.kinds.shared import ObjectReference
from labctl.resources.labels import key_errors


class EndpointAddress(msgspec.Struct, frozen=True, rename="camel", gc=False):
    ip: str = ""
    hostname: str = ""
    node_name: str = ""
    target_ref: ObjectReference | None = None


class EndpointPort(msgspec.Struct, frozen=True, rename="camel", gc=False):
    name: str = ""
    port: int = 0
    protocol: str = "TCP"
    app_protocol: str = ""


class EndpointSubset(msgspec.Struct, frozen=True, rename="camel", gc=False):
    addresses: tuple[EndpointAddress, ...] = ()
    not_ready_addresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class Endpoints(Viewed, frozen=True, rename="camel", gc=False):
    subsets: tuple[EndpointSubset, ...] = ()


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    if old is not None and new.get("subsets") == old.get("subsets"):
        return
    for index, subset in enumerate(new.get("subsets", ())):
        at = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            yield fields.required(at, "must specify `addresses` or `notReadyAddresses`")
        for part in ("addresses", "notReadyAddresses"):
            for position, address in enumerate(subset.get(part, ())):
                yield from _address(f"{at}.{part}[{position}]", address)
        ports = subset.get("ports", ())
        for position, port in enumerate(ports):
            if len(ports) > 1 and not port.get("name"):
                yield fields.required(f"{at}.ports[{position}].name")
            elif port.get("name"):
                yield from names.checked(f"{at}.ports[{position}].name", port["name"], names.label)
            yield from names.checked(f"{at}.ports[{position}].port", port.get("port", 0), names.port)
            if port["protocol"] not in PROTOCOLS:
                yield fields.not_supported(f"{at}.ports[{position}].protocol", port["protocol"], PROTOCOLS)
            if port.get("appProtocol") is not None:
                yield from names.checked(f"{at}.ports[{position}].appProtocol", port["appProtocol"], key_errors)


def _address(path: str, address: Object) -> Iterator[FieldError]:
    yield from names.checked(f"{path}.ip", address.get("ip", ""), names.outside_address)
    if address.get("hostname"):
        yield from names.checked(f"{path}.hostname", address["hostname"], names.label)
    if address.get("nodeName") is not None:
        yield from names.checked(f"{path}.nodeName", address["nodeName"], names.subdomain)


def first_addresses(endpoints: Endpoints, _now_s: float) -> str:
    """Formats the first three addresses, each with each port of its subset."""
    if not endpoints.subsets:
        return NONE
    found: list[str] = []
    for subset in endpoints.subsets:
        if subset.ports:
            found += [f"{address.ip}:{port.port}" for port in subset.ports for address in subset.addresses]
        else:
            found += [address.ip for address in subset.addresses]
    return first_three(found)


COLUMNS: tuple[Column, ...] = (NAME, Column("Endpoints", first_addresses, description="Addresses and ports behind the Service."), AGE)

KIND = Kind(
    group="",
    version="v1",
    kind="Endpoints",
    plural="endpoints",
    singular="endpoints",
    namespaced=True,
    view=Endpoints,
    deprecated="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    short_names=("ep",),
    validate=validate,
    columns=COLUMNS,
    create_on_update=True,
    type_defaults={"io.k8s.api.core.v1.EndpointPort": TypeDefaults(zero={"protocol": "TCP"})},
)
