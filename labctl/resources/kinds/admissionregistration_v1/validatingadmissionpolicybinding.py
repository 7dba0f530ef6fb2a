"""ValidatingAdmissionPolicyBinding: where a policy counts, with which parameters, and what a violation does."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Column, FieldError, Kind, Object, TypeDefaults
from labctl.resources.kinds import admissionrules as shared
from labctl.resources.kinds.admissionregistration_v1 import validatingadmissionpolicy as policies
from labctl.resources.kinds.selector_rules import label_selector

ACTIONS = ("Audit", "Deny", "Warn")


def spec_defaults(spec: Object) -> None:
    constraints = spec.get("matchResources")
    if isinstance(constraints, dict):
        policies.spec_defaults({"matchConstraints": constraints})


def validate(new: Object, _old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    if not spec.get("policyName"):
        yield fields.required("spec.policyName")
    actions = spec.get("validationActions") or ()
    if not actions:
        yield fields.required("spec.validationActions", "at least one validation action is required")
    seen: set[str] = set()
    for index, action in enumerate(actions):
        if action not in ACTIONS:
            yield fields.not_supported(f"spec.validationActions[{index}]", action, ACTIONS)
        if action in seen:
            yield fields.duplicate(f"spec.validationActions[{index}]", action)
        seen.add(action)
    if {"Deny", "Warn"} <= seen:
        why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"
        yield fields.invalid("spec.validationActions", actions, why)
    yield from binding_errors(spec)


def binding_errors(spec: Object) -> Iterator[FieldError]:
    """Validate what the bindings of both kinds of policies have: where they count, and which parameters they give."""
    if spec.get("matchResources") is not None:
        yield from policies.constraints_errors("spec.matchResources", spec["matchResources"])
    if spec.get("paramRef") is not None:
        yield from _param_ref(spec["paramRef"])


def _param_ref(ref: Object) -> Iterator[FieldError]:
    name, selector = ref.get("name", ""), ref.get("selector")
    if name:
        yield from names.checked("spec.paramRef.name", name, names.path_segment)
    if name and selector is not None:
        for part in ("name", "selector"):
            yield fields.forbidden(f"spec.paramRef.{part}", "name and selector are mutually exclusive")
    if selector is not None:
        yield from label_selector("spec.paramRef.selector", selector, may_be_empty=True)
    elif not name:
        yield fields.required("spec.paramRef", "one of name or selector must be specified")
    if ref.get("parameterNotFoundAction") is None:
        yield fields.required("spec.paramRef.parameterNotFoundAction")
    else:
        yield from shared.one_of("spec.paramRef.parameterNotFoundAction", ref["parameterNotFoundAction"], ("Allow", "Deny"))


def _ref(view: GenericObject) -> str:
    ref = view.at("spec.paramRef", None)
    if not isinstance(ref, dict):
        return "<unset>"
    where = ref.get("namespace") or "*"
    return f"{where}/{ref['name']}" if ref.get("name") else f"{where}/<selector>"


COLUMNS = (
    NAME,
    Column("PolicyName", lambda view, _now: view.at("spec.policyName", ""), description="The policy that it binds."),
    Column("ParamRef", lambda view, _now: _ref(view), description="Where its parameters are."),
    AGE,
)

KIND = Kind(
    group=shared.GROUP,
    version="v1",
    kind="ValidatingAdmissionPolicyBinding",
    plural="validatingadmissionpolicybindings",
    singular="validatingadmissionpolicybinding",
    namespaced=False,
    view=GenericObject,
    categories=("api-extensions",),
    columns=COLUMNS,
    has_generation=True,
    validate=validate,
    warnings=shared.name_warnings,
    type_defaults={shared.DEFINITION + "ValidatingAdmissionPolicyBindingSpec": TypeDefaults(function=spec_defaults)},
)
