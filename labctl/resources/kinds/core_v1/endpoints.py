"""Endpoints: the addresses behind a Service, as one object. Kept beside EndpointSlice because kubectl and people still read it."""

from __future__ import annotations

import msgspec

from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, Kind, Viewed
from labctl.resources.kinds.shared import ObjectReference


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


COLUMNS: tuple[Column, ...] = (NAME, AGE)

KIND = Kind(
    group="",
    version="v1",
    kind="Endpoints",
    plural="endpoints",
    singular="endpoints",
    namespaced=True,
    view=Endpoints,
    short_names=("ep",),
    columns=COLUMNS,
)
