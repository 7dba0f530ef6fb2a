"""CSINode: which storage drivers a node has. labctl keeps it for programs; its minions run no drivers and make no CSINode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Column, FieldError, Kind, Object
from labctl.resources.kinds.inert import stored_only
from labctl.resources.kinds.storage_v1.csidriver import NO_DRIVERS, driver_name
from labctl.resources.labels import key_errors

_MOST_ID = 192
"""Characters by which a driver knows a node."""


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    seen: set[str] = set()
    before = {driver["name"]: driver for driver in ((old or {}).get("spec") or {}).get("drivers") or ()}
    for index, driver in enumerate((new.get("spec") or {}).get("drivers") or ()):
        path, name = f"spec.drivers[{index}]", driver.get("name", "")
        yield from driver_name(f"{path}.name", name)
        if name in seen:
            yield fields.duplicate(f"{path}.name", name)
        seen.add(name)
        if not driver.get("nodeID"):
            yield fields.required(f"{path}.nodeID")
        elif len(driver["nodeID"]) > _MOST_ID:
            yield fields.invalid(f"{path}.nodeID", driver["nodeID"], f"must be {_MOST_ID} characters or less")
        if (driver.get("allocatable") or {}).get("count", 0) < 0:
            yield fields.invalid(f"{path}.allocatable.count", driver["allocatable"]["count"], "must be greater than or equal to 0")
        yield from _topology(f"{path}.topologyKeys", driver.get("topologyKeys") or [])
        if name in before and any(before[name].get(field) != driver.get(field) for field in ("nodeID", "topologyKeys")):
            yield fields.invalid("CSINodeDriver", driver, "field is immutable")


def _topology(path: str, keys: Sequence[str]) -> Iterator[FieldError]:
    for index, key in enumerate(keys):
        if not key:
            yield fields.required(path)
        elif key in keys[:index]:
            yield fields.duplicate(path, key)
        yield from (fields.invalid(path, keys, why) for why in key_errors(key))


KIND = Kind(
    group="storage.k8s.io",
    version="v1",
    kind="CSINode",
    plural="csinodes",
    singular="csinode",
    namespaced=False,
    view=GenericObject,
    columns=(
        NAME,
        Column(
            "Drivers",
            lambda view, _now: len(view.at("spec.drivers") or ()),
            type="integer",
            description="How many drivers the node has.",
        ),
        AGE,
    ),
    validate=validate,
    warnings=stored_only(NO_DRIVERS),
)
