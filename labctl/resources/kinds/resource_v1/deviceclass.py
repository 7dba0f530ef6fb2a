"""DeviceClass: a kind of devices that claims may ask for. labctl keeps it for programs; it allocates no devices."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import FieldError, Kind, Object, TypeDefaults
from labctl.resources.kinds.inert import stored_only
from labctl.resources.kinds.resource_v1.requests import NO_DEVICES, opaque_errors

_MOST = 32


def validate(new: Object, _old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    for name in ("selectors", "config"):
        if len(spec.get(name) or ()) > _MOST:
            yield fields.too_many(f"spec.{name}", len(spec[name]), _MOST)
    for index, selector in enumerate((spec.get("selectors") or ())[:_MOST]):
        at = f"spec.selectors[{index}].cel"
        if selector.get("cel") is None:
            yield fields.required(at)
        elif not selector["cel"].get("expression"):
            yield fields.required(f"{at}.expression")
    for index, each in enumerate((spec.get("config") or ())[:_MOST]):
        yield from opaque_errors(f"spec.config[{index}].opaque", each.get("opaque"))


KIND = Kind(
    group="resource.k8s.io",
    version="v1",
    kind="DeviceClass",
    plural="deviceclasses",
    singular="deviceclass",
    namespaced=False,
    view=GenericObject,
    columns=(NAME, AGE),
    validate=validate,
    warnings=stored_only(NO_DEVICES),
    has_generation=True,
    type_defaults={"io.k8s.api.resource.v1.DeviceClass": TypeDefaults(absent={"spec": {}})},
)
