"""ResourceSlice: devices of a node, as their driver tells of them. labctl keeps it for programs; it allocates no devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Column, FieldError, Kind, Object
from labctl.resources.kinds.inert import at, fixed, stored_only
from labctl.resources.kinds.resource_v1.requests import NO_DEVICES
from labctl.resources.kinds.storage_v1.csidriver import driver_name

_MOST_DEVICES = 128


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    yield from driver_name("spec.driver", spec.get("driver", ""))
    pool = spec.get("pool") or {}
    if not pool.get("name"):
        yield fields.required("spec.pool.name")
    if pool.get("resourceSliceCount", 0) <= 0:
        yield fields.invalid("spec.pool.resourceSliceCount", pool.get("resourceSliceCount", 0), "must be greater than zero")
    if pool.get("generation", 0) < 0:
        yield fields.invalid("spec.pool.generation", pool["generation"], "must be greater than or equal to zero")
    where = [name for name in ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection") if spec.get(name)]
    if len(where) != 1:
        why = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
        yield fields.invalid("spec", where, why) if where else fields.required("spec", why)
    devices = spec.get("devices") or ()
    if len(devices) > _MOST_DEVICES:
        yield fields.too_many("spec.devices", len(devices), _MOST_DEVICES)
    seen: set[str] = set()
    for index, device in enumerate(devices[:_MOST_DEVICES]):
        name = device.get("name", "")
        yield from names.checked(f"spec.devices[{index}].name", name, names.label)
        if name in seen:
            yield fields.duplicate(f"spec.devices[{index}].name", name)
        seen.add(name)
    yield from fixed(new, old, "driver", "nodeName", within="spec")
    if old is not None and pool.get("name") != old["spec"]["pool"].get("name"):
        yield fields.invalid("spec.pool.name", pool.get("name"), "field is immutable")


def selectable(view: GenericObject) -> Mapping[str, str]:
    return {name: view.at(name) or "" for name in ("spec.driver", "spec.nodeName")}


KIND = Kind(
    group="resource.k8s.io",
    version="v1",
    kind="ResourceSlice",
    plural="resourceslices",
    singular="resourceslice",
    namespaced=False,
    view=GenericObject,
    columns=(
        NAME,
        Column("Node", at("spec.nodeName", "<unset>"), description="The node that has the devices."),
        Column("Driver", at("spec.driver"), description="The driver that tells of them."),
        Column("Pool", at("spec.pool.name"), description="The pool that they belong to."),
        AGE,
    ),
    validate=validate,
    warnings=stored_only(NO_DEVICES),
    fields=selectable,
    has_generation=True,
)
