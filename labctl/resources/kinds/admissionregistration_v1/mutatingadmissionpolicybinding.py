"""MutatingAdmissionPolicyBinding: where a policy counts, and with which parameters."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields, names
from labctl.resources.generic import GenericObject
from labctl.resources.kind import FieldError, Kind, Object, TypeDefaults
from labctl.resources.kinds import admissionrules as shared
from labctl.resources.kinds.admissionregistration_v1 import validatingadmissionpolicybinding as bindings


def validate(new: Object, _old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    if not spec.get("policyName"):
        yield fields.required("spec.policyName")
    else:
        yield from names.checked("spec.policyName", spec["policyName"], names.subdomain)
    yield from bindings.binding_errors(spec)


KIND = Kind(
    group=shared.GROUP,
    version="v1",
    kind="MutatingAdmissionPolicyBinding",
    plural="mutatingadmissionpolicybindings",
    singular="mutatingadmissionpolicybinding",
    namespaced=False,
    view=GenericObject,
    categories=("api-extensions",),
    columns=bindings.COLUMNS,
    has_generation=True,
    validate=validate,
    warnings=shared.name_warnings,
    type_defaults={shared.DEFINITION + "MutatingAdmissionPolicyBindingSpec": TypeDefaults(function=bindings.spec_defaults)},
)
