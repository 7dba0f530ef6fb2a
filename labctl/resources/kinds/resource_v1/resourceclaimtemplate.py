"""ResourceClaimTemplate: what claims of pods would be made from. labctl keeps it for programs; it makes no claims and allocates no devices."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import FieldError, Kind, Object, TypeDefaults
from labctl.resources.kinds.inert import fixed, stored_only
from labctl.resources.kinds.resource_v1.requests import DEFAULTS, NO_DEVICES, claim_errors


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    yield from claim_errors("spec.spec", (new.get("spec") or {}).get("spec") or {})
    yield from fixed(new, old, "spec")


KIND = Kind(
    group="resource.k8s.io",
    version="v1",
    kind="ResourceClaimTemplate",
    plural="resourceclaimtemplates",
    singular="resourceclaimtemplate",
    namespaced=True,
    view=GenericObject,
    columns=(NAME, AGE),
    validate=validate,
    warnings=stored_only(NO_DEVICES),
    type_defaults={"io.k8s.api.resource.v1.ResourceClaimTemplate": TypeDefaults(absent={"spec": {}}), **DEFAULTS},
)
