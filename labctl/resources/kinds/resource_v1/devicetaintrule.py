"""DeviceTaintRule: a taint for all devices that a selector matches. labctl keeps it for programs; it allocates no devices."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import FieldError, Kind, Object, Subresource
from labctl.resources.kinds.inert import stored_only
from labctl.resources.kinds.resource_v1.requests import NO_DEVICES
from labctl.resources.labels import key_errors, value_errors

_EFFECTS = ("NoExecute", "NoSchedule", "None")


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {}


def validate(new: Object, _old: Object | None) -> Iterator[FieldError]:
    taint = (new.get("spec") or {}).get("taint") or {}
    yield from names.checked("spec.taint.key", taint.get("key", ""), key_errors)
    if taint.get("value"):
        yield from names.checked("spec.taint.value", taint["value"], value_errors)
    if not taint.get("effect"):
        yield fields.required("spec.taint.effect")
    elif taint["effect"] not in _EFFECTS:
        yield fields.not_supported("spec.taint.effect", taint["effect"], _EFFECTS)


KIND = Kind(
    group="resource.k8s.io",
    version="v1",
    kind="DeviceTaintRule",
    plural="devicetaintrules",
    singular="devicetaintrule",
    namespaced=False,
    view=GenericObject,
    columns=(NAME, AGE),
    subresources=(Subresource("status", ("get", "patch", "update")),),
    has_status=True,
    has_generation=True,
    prepare=prepare,
    validate=validate,
    warnings=stored_only(NO_DEVICES),
)
