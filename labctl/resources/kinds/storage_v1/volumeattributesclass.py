"""VolumeAttributesClass: settings of volumes that may be exchanged later. labctl keeps it for programs; no driver carries it out."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Column, FieldError, Kind, Object
from labctl.resources.kinds.inert import at, fixed, stored_only
from labctl.resources.kinds.storage_v1.csidriver import NO_DRIVERS, driver_name
from labctl.resources.kinds.storage_v1.storageclass import parameters


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    yield from driver_name("driverName", new.get("driverName", ""))
    if not new.get("parameters"):
        yield fields.required("parameters", "must contain at least one key/value pair")
    yield from parameters(new.get("parameters") or {})
    yield from fixed(new, old, "driverName", "parameters")


KIND = Kind(
    group="storage.k8s.io",
    version="v1",
    kind="VolumeAttributesClass",
    plural="volumeattributesclasses",
    singular="volumeattributesclass",
    namespaced=False,
    view=GenericObject,
    short_names=("vac",),
    columns=(NAME, Column("DriverName", at("driverName"), description="The driver that knows the settings."), AGE),
    validate=validate,
    warnings=stored_only(NO_DRIVERS),
)
