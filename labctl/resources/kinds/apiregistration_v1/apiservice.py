"""APIService: one version of one group, and who serves it.

Those that this server serves itself are made when they are asked for (api/aggregation/services.py). Those with a `service` are stored: their requests are
passed on to that Service (api/aggregation/forward.py).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

import msgspec

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource, Viewed
from labctl.resources.kinds.shared import Condition, condition

_PRIORITY_MAX, _VERSION_PRIORITY_MAX = 20_000, 1000


class ServiceReference(msgspec.Struct, frozen=True, gc=False):
    namespace: str = ""
    name: str = ""
    port: int = 443

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class APIServiceSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    group: str = ""
    version: str = ""
    service: ServiceReference | None = None
    ca_bundle: str = ""  # base64 of PEM
    skip_verify: bool = msgspec.field(name="insecureSkipTLSVerify", default=False)
    group_priority: int = msgspec.field(name="groupPriorityMinimum", default=0)
    version_priority: int = 0


class APIServiceStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    conditions: tuple[Condition, ...] = ()


class APIService(Viewed, frozen=True, rename="camel", gc=False):
    spec: APIServiceSpec = APIServiceSpec()
    status: APIServiceStatus = APIServiceStatus()

    @property
    def available(self) -> bool:
        found = condition(self.status.conditions, "Available")
        return found is not None and found.status == "True"


def defaults(obj: Object) -> None:
    if service := (obj.get("spec") or {}).get("service"):
        service.setdefault("port", 443)


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {}


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    group, version, service = spec.get("group", ""), spec.get("version", ""), spec.get("service")
    wanted = f"{version}.{group}"
    if new["metadata"].get("name") != wanted:
        yield fields.invalid("metadata.name", new["metadata"].get("name", ""), f'must be `spec.version+"."+spec.group`: "{wanted}"')
    if not group:
        yield fields.required("spec.group", "only v1 may have an empty group and it better be legacy kube")
    else:
        yield from names.checked("spec.group", group, names.subdomain)
    yield from names.checked("spec.version", version, names.label_1035)
    if not 0 < spec.get("groupPriorityMinimum", 0) <= _PRIORITY_MAX:
        yield fields.invalid("spec.groupPriorityMinimum", spec.get("groupPriorityMinimum", 0), "must be positive and less than 20000")
    if not 0 < spec.get("versionPriority", 0) <= _VERSION_PRIORITY_MAX:
        yield fields.invalid("spec.versionPriority", spec.get("versionPriority", 0), "must be positive and less than 1000")
    if service is None:
        yield fields.required("spec.service", "a group that no Service serves is this server's own, and is not registered by hand")
        return
    for part in ("name", "namespace"):
        if not service.get(part):
            yield fields.required(f"spec.service.{part}")
    if not 0 < service.get("port", 443) < 65_536:
        yield fields.invalid("spec.service.port", service["port"], "port is not valid: must be between 1 and 65535, inclusive")
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        yield fields.invalid("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present")
    if spec.get("caBundle") and not _is_base64(spec["caBundle"]):
        yield fields.invalid("spec.caBundle", "...", "must be base64 of certificates in PEM")


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return False
    return True


def _available(view: APIService, _now_s: float) -> str:
    """Return the column of kubectl: `True`, or `False (Reason)`."""
    found = condition(view.status.conditions, "Available")
    if found is None:
        return "Unknown"
    return found.status if found.status == "True" or not found.reason else f"{found.status} ({found.reason})"


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
        Column("Service", lambda view, _now: view.spec.service.key if view.spec.service else "Local", description="Who serves it."),
        Column("Available", _available, description="Whether it is served."),
        AGE,
    ),
    subresources=(Subresource("status", ("get", "patch", "update")),),
    has_status=True,
    name_rule="path",
    defaults=defaults,
    prepare=prepare,
    validate=validate,
)
