"""EndpointSlice: the addresses behind a Service, at most a bound per object; what `kubectl describe service` and the proxy read."""

from __future__ import annotations

import msgspec

from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, Kind, Viewed
from labctl.resources.kinds.shared import ObjectReference

SERVICE_LABEL = "kubernetes.io/service-name"
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"


class EndpointConditions(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """None means unknown, which is to be read as ready, and as not terminating."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(msgspec.Struct, frozen=True, rename="camel", gc=False):
    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    node_name: str = ""
    zone: str = ""
    target_ref: ObjectReference | None = None


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
        """The name of the Service it belongs to, from its label."""
        return self.metadata.labels.get(SERVICE_LABEL, "")


COLUMNS: tuple[Column, ...] = (NAME, AGE)

KIND = Kind(
    group="discovery.k8s.io",
    version="v1",
    kind="EndpointSlice",
    plural="endpointslices",
    singular="endpointslice",
    namespaced=True,
    view=EndpointSlice,
    columns=COLUMNS,
)
