"""CSINode: which storage drivers a node has. labctl keeps it for programs; its minions run no drivers and make no CSINode."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Column, FieldError, Kind, Object
from labctl.resources.kinds.inert import stored_only
from labctl.resources.kinds.storage_v1.csidriver import NO_DRIVERS, driver_name
from labctl.resources.labels import key_errors


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
        if (driver.get("allocatable") or {}).get("count", 0) < 0:
            yield fields.invalid(f"{path}.allocatable.count", driver["allocatable"]["count"], "must be greater than or equal to 0")
        for key in driver.get("topologyKeys") or ():
            for why in key_errors(key):
                yield fields.invalid(f"{path}.topologyKeys", key, why)
        if name in before and any(before[name].get(field) != driver.get(field) for field in ("nodeID", "topologyKeys")):
            yield fields.invalid(f"{path}", driver, "field is immutable")


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
