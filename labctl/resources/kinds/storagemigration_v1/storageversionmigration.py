"""StorageVersionMigration: the wish that all objects of a resource be stored anew (controllers/migrations.py). labctl reads every version that it ever wrote,
and writes the present one with the next change; a migration is for who wants to drop an old version."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource
from labctl.resources.kinds.inert import at, fixed


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {}


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    if not ((new.get("spec") or {}).get("resource") or {}).get("resource"):
        yield fields.required("spec.resource.resource", "resource is required")
    yield from fixed(new, old, "resource", within="spec")


KIND = Kind(
    group="storagemigration.k8s.io",
    version="v1",
    kind="StorageVersionMigration",
    plural="storageversionmigrations",
    singular="storageversionmigration",
    namespaced=False,
    view=GenericObject,
    columns=(
        NAME,
        Column("Resource", at("spec.resource.resource"), description="Whose objects are to be stored anew."),
        AGE,
    ),
    subresources=(Subresource("status", ("get", "patch", "update")),),
    has_status=True,
    prepare=prepare,
    validate=validate,
)
