"""ValidatingAdmissionPolicies: rules in CEL about writes, evaluated here, without a server to ask.

A policy says which writes it is about and what must be true of them; a binding says what a violation does: refuse the write, warn, or leave a note for audit
(which is stored and not acted on). An expression that has no value counts as a violation (`failurePolicy: Fail`) or is passed over (`Ignore`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from labctl.admission.bound import Binding, BoundPolicies, Policy
from labctl.admission.conditions import all_hold, value
from labctl.admission.matching import EVERY_VERB, OWN_GROUP
from labctl.admission.reviews import shown
from labctl.errors import ApiError
from labctl.resources import failures
from labctl.resources.admission import Attributes, Verb
from labctl.resources.cel.expressions import Environment, EvaluationError, Expression
from labctl.resources.client import Client
from labctl.resources.kind import Kind, Object
from labctl.resources.rbac.matching import Permissions

POLICIES, BINDINGS = f"validatingadmissionpolicies.{OWN_GROUP}", f"validatingadmissionpolicybindings.{OWN_GROUP}"
_CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413, "Invalid": 422}
MOST_MESSAGE = 5120


class Validation(msgspec.Struct, frozen=True):
    expression: Expression
    message: str
    message_expression: Expression | None
    reason: str


class ValidatingPolicy(Policy):
    """A policy, compiled."""

    def __init__(self, name: str, spec: Object) -> None:
        super().__init__(name, spec)
        env = Environment(self.known)
        self.validations = [_validation(env, said) for said in spec.get("validations") or ()]


def _validation(env: Environment, said: Object) -> Validation:
    message = said.get("messageExpression")
    compiled = env.compile(message, "string") if message else None
    return Validation(
        env.compile(said.get("expression") or ""), (said.get("message") or "").strip(), compiled, said.get("reason") or "Invalid"
    )


class Violation(msgspec.Struct, frozen=True):
    message: str
    reason: str = "Invalid"


class ValidatingPolicies:
    """A validating step."""

    name = "ValidatingAdmissionPolicy"
    kinds: frozenset[str] | None = None
    verbs: frozenset[Verb] = EVERY_VERB

    def __init__(self, client: Client, permissions: Permissions) -> None:
        self._bound = BoundPolicies(client, permissions, POLICIES, BINDINGS, ValidatingPolicy)

    async def admit(self, attributes: Attributes) -> None:
        for policy, binding, kind in self._bound.concerned(attributes):
            await self._apply(attributes, policy, binding, kind)

    async def _apply(self, attributes: Attributes, policy: ValidatingPolicy, binding: Binding, kind: Kind) -> None:
        variables = self._bound.variables(attributes, await shown(attributes, kind))
        try:
            for params in self._bound.params(attributes, policy, binding):
                known = {**variables, **({"params": params} if policy.param_kind else {})}
                if await all_hold(policy.conditions, known):
                    for violation in await _violations(policy, known):
                        _act(attributes, policy, binding, violation)
        except EvaluationError as error:
            if policy.fails:
                _act(attributes, policy, binding, Violation(str(error)))


async def _violations(policy: ValidatingPolicy, known: Mapping[str, Any]) -> list[Violation]:
    found: list[Violation] = []
    for validation in policy.validations:
        read = await policy.read_by((validation.expression, validation.message_expression), known)
        variables = {**known, "variables": read}
        try:
            if not await value(validation.expression, variables):
                found.append(Violation(await _message(validation, variables), validation.reason))
        except EvaluationError as error:
            if policy.fails:
                found.append(Violation(f"expression '{validation.expression.text}' resulted in error: {error}"))
    return found


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
