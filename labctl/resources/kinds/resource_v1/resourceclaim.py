"""ResourceClaim: that somebody needs devices. labctl keeps it for programs, which may write its status; it allocates no devices."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import KEEPS_METADATA, Column, FieldError, Kind, Object, TypeDefaults
from labctl.resources.kinds import status_rules
from labctl.resources.kinds.inert import fixed, stored_only
from labctl.resources.kinds.resource_v1 import claim_status_rules
from labctl.resources.kinds.resource_v1.requests import DEFAULTS, NO_DEVICES, claim_errors


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {}


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    yield from claim_errors("spec", new.get("spec") or {})
    yield from fixed(new, old, "spec")


def _state(view: GenericObject, _now_s: float) -> str:
    words = ["deleted"] if view.metadata.deletion_timestamp else []
    if view.at("status.allocation") is None:
        return ",".join([*words, "pending"])
    return ",".join([*words, "allocated", *(["reserved"] if view.at("status.reservedFor") else [])])


KIND = Kind(
    group="resource.k8s.io",
    version="v1",
    kind="ResourceClaim",
    plural="resourceclaims",
    singular="resourceclaim",
    namespaced=True,
    view=GenericObject,
    columns=(NAME, Column("State", _state, description="Whether it has its devices."), AGE),
    subresources=(status_rules.subresource(claim_status_rules.validate, keeps=KEEPS_METADATA, prepare=claim_status_rules.drop_given_back),),
    has_status=True,
    prepare=prepare,
    validate=validate,
    warnings=stored_only(NO_DEVICES),
    type_defaults={"io.k8s.api.resource.v1.ResourceClaim": TypeDefaults(absent={"spec": {}}), **DEFAULTS},
)
