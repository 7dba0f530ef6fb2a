"""ValidatingAdmissionPolicy: rules in CEL about writes. A ValidatingAdmissionPolicyBinding makes it count."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource, TypeDefaults
from labctl.resources.kinds import admissionrules as shared
from labctl.resources.labels import key_errors

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MOST_CHARACTERS = 20_000
"""Of all expressions of a policy: they are compiled when the first write concerns it, and walked through by each, while all others wait."""

REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_MOST_ANNOTATIONS, _MOST_OF_A_VALUE = 20, 5 * 1024
_LINE_BREAK = re.compile("[\n\r]")
_RESERVED = frozenset(
    "as break const continue else false for function if import in let loop namespace null package return true var void while".split()
)
"""Words that CEL keeps for itself."""


def variables_of(spec: Object) -> Mapping[str, str]:
    """Return the variables that a policy's expressions may use, with their types."""
    return {
        **shared.REQUEST_VARIABLES,
        "namespaceObject": "dyn",
        "variables": "dyn",
        **({"params": "dyn"} if spec.get("paramKind") else {}),
    }


def spec_defaults(spec: Object) -> None:
    spec.setdefault("failurePolicy", "Fail")
    constraints = spec.get("matchConstraints")
    if isinstance(constraints, dict):
        shared.matching_defaults(constraints)
        for name in ("resourceRules", "excludeResourceRules"):
            for rule in constraints.get(name) or ():
                shared.rule_defaults(rule)


def validate(new: Object, _old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    if wrong := too_long(spec):
        yield wrong
        return
    known = variables_of(spec)
    yield from policy_errors(spec, known)
    validations, annotations = spec.get("validations") or (), spec.get("auditAnnotations") or ()
    if not validations and not annotations:
        for name in ("validations", "auditAnnotations"):
            yield fields.required(f"spec.{name}", "validations or auditAnnotations must contain at least one item")
    for number, validation in enumerate(validations):
        yield from _validation(f"spec.validations[{number}]", validation, known)
    yield from _annotations("spec.auditAnnotations", annotations, new["metadata"].get("name", ""), known)


def _annotations(path: str, said: Sequence[Object], name: str, known: Mapping[str, str]) -> Iterator[FieldError]:
    """Check what a policy writes into the audit log, under keys of the form `policy/key`."""
    if len(said) > _MOST_ANNOTATIONS:
        yield fields.invalid(path, said, f"must not have more than {_MOST_ANNOTATIONS} auditAnnotations")
    seen: set[str] = set()
    for number, annotation in enumerate(said):
        at, key, text = f"{path}[{number}]", annotation.get("key", ""), annotation.get("valueExpression") or ""
        yield from (fields.invalid(f"{at}.key", key, why) for why in key_errors(f"{name}/{key}"))
        if not text.strip():
            yield fields.required(f"{at}.valueExpression", "valueExpression is not specified")
        elif len(text.strip().encode()) > _MOST_OF_A_VALUE:
            yield fields.required(f"{at}.valueExpression", f"must not exceed {_MOST_OF_A_VALUE} bytes in length")
        else:
            yield from shared.expression(f"{at}.valueExpression", text, known, "")
        if key in seen:
            yield fields.duplicate(f"{at}.key", key)
        seen.add(key)


def too_long(spec: Object) -> FieldError | None:
    """Return the error of a policy whose expressions are longer together than MOST_CHARACTERS."""
    characters = _characters(spec)
    if characters <= MOST_CHARACTERS:
        return None
    return fields.forbidden("spec", f"expressions of a policy may have {MOST_CHARACTERS} characters together, these have {characters}")


def _characters(said: object) -> int:
    if isinstance(said, list):
        return sum(map(_characters, said))
    if not isinstance(said, dict):
        return 0
    own = sum(len(text) for name, text in said.items() if isinstance(text, str) and name.lower().endswith("expression"))
    return own + sum(map(_characters, said.values()))


def policy_errors(spec: Object, known: Mapping[str, str]) -> Iterator[FieldError]:
    """Validate what both kinds of policies have: what they are about, their parameters, conditions and variables."""
    yield from shared.one_of("spec.failurePolicy", spec.get("failurePolicy"), ("Fail", "Ignore"))
    yield from _param_kind(spec.get("paramKind"))
    constraints = spec.get("matchConstraints")
    if constraints is None:
        yield fields.required("spec.matchConstraints")
    else:
        yield from constraints_errors("spec.matchConstraints", constraints)
        if not constraints.get("resourceRules"):
            yield fields.required("spec.matchConstraints.resourceRules")
    before = {name: type_ for name, type_ in known.items() if name != "variables"}
    yield from shared.conditions("spec.matchConditions", spec.get("matchConditions") or (), before)
    yield from _variables(spec.get("variables") or (), known)


def _param_kind(kind: Object | None) -> Iterator[FieldError]:
    if kind is None:
        return
    path, said = "spec.paramKind.apiVersion", kind.get("apiVersion") or ""
    group, slash, version = said.rpartition("/")
    if not said:
        yield fields.required(path)
    elif "/" in group:
        yield fields.invalid(path, said, f"unexpected GroupVersion string: {said}")
    else:
        if slash and group:
            yield from names.checked(path, group, names.subdomain)
        if not version:
            yield fields.invalid(path, said, "version must be specified")
        else:
            yield from names.checked(path, version, names.label_1035)
    if not kind.get("kind"):
        yield fields.required("spec.paramKind.kind")
    else:
        for why in names.label_1035(kind["kind"].lower()):
            yield fields.invalid("spec.paramKind.kind", kind["kind"], f"may have mixed case, but should otherwise match: {why}")


def constraints_errors(path: str, constraints: Object) -> Iterator[FieldError]:
    yield from shared.rules(f"{path}.resourceRules", constraints.get("resourceRules") or ())
    yield from shared.rules(f"{path}.excludeResourceRules", constraints.get("excludeResourceRules") or ())
    yield from shared.label_selectors(path, constraints)
    yield from shared.one_of(f"{path}.matchPolicy", constraints.get("matchPolicy"), ("Equivalent", "Exact"))


def _variables(said: Sequence[Object], known: Mapping[str, str]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for number, variable in enumerate(said):
        path, name = f"spec.variables[{number}]", variable.get("name", "")
        if not name.strip():
            yield fields.required(f"{path}.name", "name is not specified")
        elif not _IDENTIFIER.fullmatch(name) or name in _RESERVED:
            yield fields.invalid(f"{path}.name", name, "name is not a valid CEL identifier")
        elif name in seen:
            yield fields.duplicate(f"{path}.name", name)
        seen.add(name)
        yield from _expression(f"{path}.expression", variable.get("expression") or "", known, "")


def _expression(path: str, text: str, known: Mapping[str, str], wanted: str) -> Iterator[FieldError]:
    if not text.strip():
        yield fields.required(path, "expression is not specified")
    else:
        yield from shared.expression(path, text, known, wanted)


def _validation(path: str, validation: Object, known: Mapping[str, str]) -> Iterator[FieldError]:
    yield from _expression(f"{path}.expression", validation.get("expression") or "", known, "bool")
    said = validation.get("messageExpression") or ""
    if said and not said.strip():
        yield fields.invalid(f"{path}.messageExpression", said, "must be non-empty if specified")
    elif said:
        asked = {name: type_ for name, type_ in known.items() if name != "authorizer"}  # who may do what is not told in messages
        yield from shared.expression(f"{path}.messageExpression", said, asked, "string")
    message = validation.get("message") or ""
    if message and not message.strip():
        yield fields.invalid(f"{path}.message", message, "message must be non-empty if specified")
    elif _LINE_BREAK.search(message.strip()):
        yield fields.invalid(f"{path}.message", message, "message must not contain line breaks")
    if validation.get("reason") and validation["reason"] not in REASONS:
        yield fields.not_supported(f"{path}.reason", validation["reason"], REASONS)


def _shown_param_kind(view: GenericObject) -> str:
    kind = view.at("spec.paramKind", None)
    return f"{kind.get('apiVersion')}/{kind.get('kind')}" if isinstance(kind, dict) else "<unset>"


PARAM_KIND = Column("ParamKind", lambda view, _now: _shown_param_kind(view), description="The kind of its parameters.")

KIND = Kind(
    group=shared.GROUP,
    version="v1",
    kind="ValidatingAdmissionPolicy",
    plural="validatingadmissionpolicies",
    singular="validatingadmissionpolicy",
    namespaced=False,
    view=GenericObject,
    categories=("api-extensions",),
    columns=(
        NAME,
        Column(
            "Validations",
            lambda view, _now: len(view.at("spec.validations", ()) or ()),
            type="integer",
            description="How many rules it has.",
        ),
        PARAM_KIND,
        AGE,
    ),
    subresources=(Subresource("status", ("get", "patch", "update")),),
    has_status=True,
    has_generation=True,
    validate=validate,
    warnings=shared.name_warnings,
    type_defaults={shared.DEFINITION + "ValidatingAdmissionPolicySpec": TypeDefaults(function=spec_defaults)},
)
