"""APIService: one version of one group that is served. All of them are this server's own; the API makes the list from the kinds there are (api/apiservices.py)."""

from __future__ import annotations

import msgspec

from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, Kind, Viewed
from labctl.resources.kinds.shared import Condition, condition_status


class ServiceReference(msgspec.Struct, frozen=True, gc=False):
    namespace: str = ""
    name: str = ""


class APIServiceSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    group: str = ""
    version: str = ""
    service: ServiceReference | None = None


class APIServiceStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    conditions: tuple[Condition, ...] = ()


class APIService(Viewed, frozen=True, rename="camel", gc=False):
    spec: APIServiceSpec = APIServiceSpec()
    status: APIServiceStatus = APIServiceStatus()


KIND = Kind(
    group="apiregistration.k8s.io",
    version="v1",
    kind="APIService",
    plural="apiservices",
    singular="apiservice",
    namespaced=False,
    view=APIService,
    categories=("api-extensions",),
    columns=(
        NAME,
        Column("Service", lambda _view, _now: "Local", description="Who serves it."),
        Column("Available", lambda view, _now: condition_status(view.status.conditions, "Available"), description="Whether it is served."),
        AGE,
    ),
    verbs=("get", "list"),
    persisted=False,
)
