"""MutatingAdmissionPolicy: changes in CEL to what is written. A MutatingAdmissionPolicyBinding makes it count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from labctl.resources import fields
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults
from labctl.resources.kinds import admissionrules as shared
from labctl.resources.kinds.admissionregistration_v1 import validatingadmissionpolicy as policies

APPLY, JSON = "ApplyConfiguration", "JSONPatch"
FIELDS: Mapping[str, str] = {APPLY: "applyConfiguration", JSON: "jsonPatch"}
"""Where each type of patch has its expression."""
REINVOCATION = ("IfNeeded", "Never")


def validate(new: Object, _old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    if wrong := policies.too_long(spec):
        yield wrong
        return
    known = policies.variables_of(spec)
    yield from policies.policy_errors(spec, known)
    if not spec.get("mutations"):
        yield fields.required("spec.mutations", "mutations must contain at least one item")
    for number, mutation in enumerate(spec.get("mutations") or ()):
        yield from _mutation(f"spec.mutations[{number}]", mutation, known)
    if not spec.get("reinvocationPolicy"):
        yield fields.required("spec.reinvocationPolicy")
    else:
        yield from shared.one_of("spec.reinvocationPolicy", spec["reinvocationPolicy"], REINVOCATION)


def _mutation(path: str, mutation: Object, known: Mapping[str, str]) -> Iterator[FieldError]:
    type_ = mutation.get("patchType")
    if not type_:
        yield fields.required(f"{path}.patchType")
        return
    if type_ not in FIELDS:
        yield fields.not_supported(f"{path}.patchType", type_, sorted(FIELDS))
        return
    for other, name in FIELDS.items():
        said = mutation.get(name)
        if other != type_:
            if said is not None:
                yield fields.forbidden(f"{path}.{name}", f"is forbidden when patchType is {type_}")
        elif said is None:
            yield fields.required(f"{path}.{name}", f"is required when patchType is {type_}")
        else:
            yield from _patch(f"{path}.{name}.expression", said.get("expression") or "", type_, known)


def _patch(path: str, text: str, type_: str, known: Mapping[str, str]) -> Iterator[FieldError]:
    from labctl.resources.cel.expressions import CompileError  # only who writes an expression pays for it
    from labctl.resources.cel.messages import compile_apply, compile_patch

    if not text.strip():
        yield fields.required(path)
        return
    try:
        (compile_apply if type_ == APPLY else compile_patch)(text, known)
    except CompileError as error:
        yield fields.invalid(path, text, str(error))


KIND = Kind(
    group=shared.GROUP,
    version="v1",
    kind="MutatingAdmissionPolicy",
    plural="mutatingadmissionpolicies",
    singular="mutatingadmissionpolicy",
    namespaced=False,
    view=GenericObject,
    categories=("api-extensions",),
    columns=(
        NAME,
        Column(
            "Mutations",
            lambda view, _now: len(view.at("spec.mutations", ()) or ()),
            type="integer",
            description="How many changes it makes.",
        ),
        policies.PARAM_KIND,
        AGE,
    ),
    has_generation=True,
    validate=validate,
    warnings=shared.name_warnings,
    type_defaults={shared.DEFINITION + "MutatingAdmissionPolicySpec": TypeDefaults(function=policies.spec_defaults)},
)
