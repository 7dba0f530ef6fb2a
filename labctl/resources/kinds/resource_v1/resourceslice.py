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
from labctl.resources.labels import key_errors

_MOST_DEVICES = 128
_VALUES = ("bool", "bools", "int", "ints", "string", "strings", "version", "versions")
_EFFECTS = ("NoExecute", "NoSchedule", "None")


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
        if old is None or device not in (old["spec"].get("devices") or ()):
            yield from _device(f"spec.devices[{index}]", device)
    yield from fixed(new, old, "driver", "nodeName", within="spec")
    if old is not None and pool.get("name") != old["spec"]["pool"].get("name"):
        yield fields.invalid("spec.pool.name", pool.get("name"), "field is immutable")


def _device(path: str, device: Object) -> Iterator[FieldError]:
    for name, value in (device.get("attributes") or {}).items():
        said = [kind for kind in _VALUES if value.get(kind) is not None]
        if len(said) != 1:
            why = "exactly one value must be specified"
            at = f"{path}.attributes[{name}]"
            yield fields.required(at, why) if not said else fields.invalid(at, value, why)
    for index, taint in enumerate(device.get("taints") or ()):
        at = f"{path}.taints[{index}]"
        yield from names.checked(f"{at}.key", taint.get("key", ""), key_errors)
        if taint.get("effect") not in _EFFECTS:
            yield fields.not_supported(f"{at}.effect", taint.get("effect", ""), _EFFECTS)


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
