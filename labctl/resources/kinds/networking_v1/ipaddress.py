"""IPAddress: that an address belongs to an object. labctl keeps it for programs; its Services' addresses are claims of its own (claims.py)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Column, FieldError, Kind, Object
from labctl.resources.kinds.inert import fixed, stored_only


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    name = new["metadata"].get("name", "")
    errors = names.address(name)
    if not errors and str(ip_address(name)) != name:
        errors = [f'must be in canonical form ("{ip_address(name)}")']
    for why in errors:
        yield fields.invalid("metadata.name", name, why)
    reference = (new.get("spec") or {}).get("parentRef")
    if not reference:
        yield fields.required("spec.parentRef")
        return
    for part in ("resource", "name"):
        if not reference.get(part):
            yield fields.required(f"spec.parentRef.{part}")
    if reference.get("group"):
        yield from names.checked("spec.parentRef.group", reference["group"], names.subdomain)
    yield from fixed(new, old, "spec")


def _parent(view: GenericObject, _now_s: float) -> str:
    reference = view.at("spec.parentRef") or {}
    parts = (reference.get("group"), reference.get("resource"), reference.get("namespace"), reference.get("name"))
    resource = ".".join(str(part) for part in (parts[1], parts[0]) if part)
    return "/".join(str(part) for part in (resource, *parts[2:]) if part)


KIND = Kind(
    group="networking.k8s.io",
    version="v1",
    kind="IPAddress",
    plural="ipaddresses",
    singular="ipaddress",
    namespaced=False,
    view=GenericObject,
    short_names=("ip",),
    columns=(NAME, Column("ParentRef", _parent, description="The object that it belongs to."), AGE),
    name_rule="path",
    validate=validate,
    has_generation=True,
    warnings=stored_only("labctl stores an IPAddress, but reserves no address by it; its Services' addresses have none"),
)
