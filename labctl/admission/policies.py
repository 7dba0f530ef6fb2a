"""ValidatingAdmissionPolicies: rules in CEL about writes, evaluated here, without a server to ask.

A policy says which writes it is about and what must be true of them; a binding makes it count, may narrow it, names its parameters and says what a
violation does: refuse the write, warn, or leave a note for audit (which is stored and not acted on). An expression that has no value counts as a violation
(`failurePolicy: Fail`) or is passed over (`Ignore`). Policies and bindings are compiled once for each of their revisions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from labctl.admission.authorizer import authorizer_of
from labctl.admission.conditions import Condition, all_hold, conditions_of, value
from labctl.admission.matching import NAMESPACES, NOT_SHOWN, OWN_GROUP, Match
from labctl.admission.reviews import request, shown
from labctl.errors import ApiError
from labctl.resources import encoding, failures
from labctl.resources.admission import Attributes, Verb
from labctl.resources.cel.expressions import Environment, EvaluationError, Expression
from labctl.resources.cel.tree import Ident, Select, walk
from labctl.resources.client import Client
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Object
from labctl.resources.kinds.admissionregistration_v1.validatingadmissionpolicy import variables_of
from labctl.resources.rbac.holders import Rbac
from labctl.resources.service import ListOptions

POLICIES, BINDINGS = f"validatingadmissionpolicies.{OWN_GROUP}", f"validatingadmissionpolicybindings.{OWN_GROUP}"
_CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413, "Invalid": 422}
NO_PARAMS = "no params found for policy binding with `Deny` parameterNotFoundAction"
MOST_MESSAGE = 5120


class Validation(msgspec.Struct, frozen=True):
    expression: Expression
    message: str
    message_expression: Expression | None
    reason: str


class Policy:
    """A policy, compiled."""

    def __init__(self, name: str, spec: Object) -> None:
        self.name = name
        self.fails = spec.get("failurePolicy", "Fail") == "Fail"
        self.param_kind: Object | None = spec.get("paramKind")
        constraints = spec.get("matchConstraints") or {}
        self.match = Match(constraints, constraints.get("resourceRules") or ())
        known = variables_of(spec)
        env = Environment(known)
        before = {variable: type_ for variable, type_ in known.items() if variable != "variables"}
        self.conditions: list[Condition] = conditions_of(spec.get("matchConditions") or (), before)
        self.variables = {each["name"]: env.compile(each["expression"], "") for each in spec.get("variables") or ()}
        self.validations = [_validation(env, said) for said in spec.get("validations") or ()]


def _validation(env: Environment, said: Object) -> Validation:
    message = said.get("messageExpression")
    compiled = env.compile(message, "string") if message else None
    return Validation(
        env.compile(said.get("expression") or ""), (said.get("message") or "").strip(), compiled, said.get("reason") or "Invalid"
    )


class Binding(msgspec.Struct, frozen=True):
    name: str
    policy: str
    actions: frozenset[str]
    match: Match
    param: Object | None


class Violation(msgspec.Struct, frozen=True):
    message: str
    reason: str = "Invalid"


class ValidatingPolicies:
    """A validating step."""

    name = "ValidatingAdmissionPolicy"
    kinds: frozenset[str] | None = None
    verbs: frozenset[Verb] = frozenset({"create", "update", "delete"})

    def __init__(self, client: Client, rbac: Rbac) -> None:
        self._client = client
        self._rbac = rbac
        self._policies: dict[str, tuple[int, Policy]] = {}
        self._bindings: dict[str, tuple[int, Binding]] = {}

    async def admit(self, attributes: Attributes) -> None:
        entries = self._client.resources.store.range(BINDINGS + "/").entries
        if not entries or attributes.kind.group == OWN_GROUP or attributes.subresource in NOT_SHOWN:
            return
        for binding in self._bound(entries):
            policy = self._policy(binding.policy)
            if policy is not None:
                await self._apply(attributes, policy, binding)

    # -- what there is -----------------------------------------------------------------------------------------------------

    def _bound(self, entries: Sequence[Any]) -> list[Binding]:
        known: dict[str, tuple[int, Binding]] = {}
        for entry in entries:
            found = self._bindings.get(entry.key)
            if found is None or found[0] != entry.revision:
                found = entry.revision, _binding(self._client.resources.view(entry))
            known[entry.key] = found
        self._bindings = known
        return [binding for _, binding in known.values()]

    def _policy(self, name: str) -> Policy | None:
        view: GenericObject | None = self._client.get(POLICIES, name)
        if view is None:
            self._policies.pop(name, None)
            return None
        found = self._policies.get(name)
        if found is None or found[0] != view.metadata.revision:
            found = self._policies[name] = view.metadata.revision, Policy(name, view.at("spec", {}))
        return found[1]

    # -- what it means for one write -----------------------------------------------------------------------------------------

    async def _apply(self, attributes: Attributes, policy: Policy, binding: Binding) -> None:
        versions = self._client.resources.registry.versions(attributes.kind.resource) or (attributes.kind,)
        kind = policy.match.kind(attributes, versions, self._labels_of)
        if kind is None or binding.match.kind(attributes, versions, self._labels_of, anything=True) is None:
            return
        seen = await shown(attributes, kind)
        variables: dict[str, Any] = {"object": seen.new, "oldObject": seen.old, "request": request(attributes, seen)}
        variables["request"] = {name: said for name, said in variables["request"].items() if name not in ("object", "oldObject")}
        variables["namespaceObject"] = self._namespace(attributes)
        variables["authorizer"] = authorizer_of(self._rbac, attributes, kind)
        try:
            for params in self._params(attributes, policy, binding):
                known = {**variables, **({"params": params} if policy.param_kind else {})}
                if await all_hold(policy.conditions, known):
                    for violation in await _violations(policy, known):
                        _act(attributes, policy, binding, violation)
        except EvaluationError as error:
            if policy.fails:
                _act(attributes, policy, binding, Violation(str(error)))

    def _namespace(self, attributes: Attributes) -> Object | None:
        return self._client.raw(NAMESPACES, attributes.namespace) if attributes.kind.namespaced else None

    def _labels_of(self, namespace: str) -> Mapping[str, str] | None:
        found = self._client.get(NAMESPACES, namespace)
        return None if found is None else found.metadata.labels

    def _params(self, attributes: Attributes, policy: Policy, binding: Binding) -> Sequence[Object | None]:
        """Return the objects that the rules are evaluated with, one after the other."""
        ref = binding.param
        if policy.param_kind is None or ref is None:
            return [None]
        kind = self._client.resources.registry.of(policy.param_kind.get("apiVersion", ""), policy.param_kind.get("kind", ""))
        if kind is None:
            said = f"{policy.param_kind.get('apiVersion')}, Kind={policy.param_kind.get('kind')}"
            raise EvaluationError(f"failed to find resource referenced by paramKind: '{said}'")
        namespace = (ref.get("namespace") or attributes.namespace) if kind.namespaced else ""
        if kind.namespaced and not namespace:
            raise EvaluationError("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
        if ref.get("name"):
            key = f"{namespace}/{ref['name']}" if namespace else ref["name"]
            found = [self._client.raw(kind.resource, key)]
        else:
            listed = self._client.resources.list(kind, namespace, ListOptions(label_selector=_selector(ref.get("selector") or {})))
            found = [encoding.decoded(entry) for entry in listed.entries]
        there = [each for each in found if each is not None]
        if not there and ref.get("parameterNotFoundAction") == "Deny":
            raise EvaluationError(NO_PARAMS)
        return there


def _binding(view: GenericObject) -> Binding:
    spec = view.at("spec", {})
    match = spec.get("matchResources") or {}
    actions = frozenset(spec.get("validationActions") or ())
    return Binding(
        view.metadata.name, spec.get("policyName", ""), actions, Match(match, match.get("resourceRules") or ()), spec.get("paramRef")
    )


def _selector(said: Object) -> str:
    """Return a label selector as text."""
    parts = [f"{key}={each}" for key, each in (said.get("matchLabels") or {}).items()]
    for each in said.get("matchExpressions") or ():
        key, values = each.get("key"), ",".join(each.get("values") or ())
        parts.append(
            {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": f"{key}"}.get(each.get("operator"), f"!{key}")
        )
    return ",".join(parts)


async def _violations(policy: Policy, known: Mapping[str, Any]) -> list[Violation]:
    found: list[Violation] = []
    for validation in policy.validations:
        variables = {**known, "variables": await _variables(policy, validation, known)}
        try:
            if not await value(validation.expression, variables):
                found.append(Violation(await _message(validation, variables), validation.reason))
        except EvaluationError as error:
            if policy.fails:
                found.append(Violation(f"expression '{validation.expression.text}' resulted in error: {error}"))
    return found


async def _variables(policy: Policy, validation: Validation, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the policy's variables that a rule reads, and those that these read. A variable that fails is left out, and whatever reads it fails."""
    wanted: set[str] = set()
    waiting = [each for each in (validation.expression, validation.message_expression) if each is not None]
    while waiting:
        for name in _read(waiting.pop()):
            if name in policy.variables and name not in wanted:
                wanted.add(name)
                waiting.append(policy.variables[name])
    values: dict[str, Any] = {}
    for name, expression in policy.variables.items():
        if name in wanted:
            try:
                values[name] = await value(expression, {**known, "variables": values})
            except EvaluationError:
                continue
    return values


def _read(expression: Expression) -> Iterator[str]:
    for node in walk(expression.tree):
        if isinstance(node, Select) and node.operand == Ident("variables"):
            yield node.field


async def _message(validation: Validation, variables: Mapping[str, Any]) -> str:
    if validation.message_expression is not None:
        try:
            said = str(await value(validation.message_expression, variables)).strip()
        except EvaluationError:
            said = ""
        if said and "\n" not in said and len(said) <= MOST_MESSAGE:
            return said
    return validation.message or f"failed expression: {validation.expression.text.strip()}"


def _act(attributes: Attributes, policy: Policy, binding: Binding, violation: Violation) -> None:
    who = f"ValidatingAdmissionPolicy '{policy.name}' with binding '{binding.name}'"
    if "Deny" in binding.actions:
        message = f"{who} denied request: {violation.message}"
        refused = failures.forbidden(attributes.kind, attributes.name, message, [{"message": message}])
        code = _CODES.get(violation.reason, 422)
        raise ApiError(code, violation.reason, str(refused), details=refused.details)
    if "Warn" in binding.actions:
        attributes.warnings.append(f"Validation failed for {who}: {violation.message}")
