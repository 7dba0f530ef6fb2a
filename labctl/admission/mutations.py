"""MutatingAdmissionPolicies: changes in CEL to what is written, made here, without a server to ask.

A policy's mutations are applied one after the other, each to what those before it made: an ApplyConfiguration is merged as server-side apply merges (without
an owner of its fields, and never into a list or map that is replaced as a whole), a JSONPatch is applied as it is. They come before mutating webhooks. A policy
with `reinvocationPolicy: IfNeeded` is asked once more when the object was changed after it (reinvocation.py). One that fails refuses the write
(`failurePolicy: Fail`) or is passed over (`Ignore`), as a whole for its mutation that failed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from copy import deepcopy
from typing import Any

import msgspec

from labctl.admission.bound import Binding, BoundPolicies, Policy
from labctl.admission.conditions import all_hold, value
from labctl.admission.matching import EVERY_VERB, OWN_GROUP
from labctl.admission.reinvocation import Round
from labctl.admission.reviews import shown, take
from labctl.errors import ApiError
from labctl.resources import encoding, failures
from labctl.resources.admission import Attributes, Verb
from labctl.resources.cel import messages
from labctl.resources.cel.expressions import EvaluationError, Expression
from labctl.resources.client import Client
from labctl.resources.kind import Kind, Object
from labctl.resources.kinds.admissionregistration_v1.mutatingadmissionpolicy import APPLY, FIELDS
from labctl.resources.patches import apply, fieldset
from labctl.resources.patches import json as json_patch
from labctl.resources.rbac.matching import Permissions
from labctl.resources.schema.definitions import Type

POLICIES, BINDINGS = f"mutatingadmissionpolicies.{OWN_GROUP}", f"mutatingadmissionpolicybindings.{OWN_GROUP}"


class Mutation(msgspec.Struct, frozen=True):
    type: str
    expression: Expression


class MutatingPolicy(Policy):
    """A policy, compiled."""

    def __init__(self, name: str, spec: Object) -> None:
        super().__init__(name, spec)
        self.again = spec.get("reinvocationPolicy") == "IfNeeded"
        self.mutations = [self._mutation(said) for said in spec.get("mutations") or ()]

    def _mutation(self, said: Object) -> Mutation:
        type_ = said.get("patchType", "")
        text = (said.get(FIELDS.get(type_, "")) or {}).get("expression") or ""
        return Mutation(type_, (messages.compile_apply if type_ == APPLY else messages.compile_patch)(text, self.known))


class Invocation(msgspec.Struct, frozen=True):
    """A policy, as one binding makes it count, with one of its parameters."""

    policy: MutatingPolicy
    binding: Binding
    kind: Kind
    params: Object | None

    @property
    def key(self) -> Hashable:
        about = (self.params or {}).get("metadata", {})
        return self.policy.name, self.binding.name, about.get("namespace", ""), about.get("name", "")


class MutatingPolicies:
    """A mutating step."""

    name = "MutatingAdmissionPolicy"
    kinds: frozenset[str] | None = None
    verbs: frozenset[Verb] = EVERY_VERB - {"delete"}

    def __init__(self, client: Client, permissions: Permissions) -> None:
        self._client = client
        self._bound = BoundPolicies(client, permissions, POLICIES, BINDINGS, MutatingPolicy)

    async def admit(self, attributes: Attributes) -> None:
        if attributes.new is None or attributes.subresource == "scale":
            return
        asked = list(self._invocations(attributes))
        if not asked:
            return
        current = Round(self.name, attributes)
        for invocation in asked:
            if current.asks(invocation.key):
                changed = await self._one(attributes, invocation)
                current.was_asked(invocation.key, again=invocation.policy.again, changed=changed)
        current.end()

    def _invocations(self, attributes: Attributes) -> Iterator[Invocation]:
        for policy, binding, kind in self._bound.concerned(attributes):
            try:
                for params in self._bound.params(attributes, policy, binding):
                    yield Invocation(policy, binding, kind, params)
            except EvaluationError as error:
                _failed(attributes, policy, binding, str(error))

    async def _one(self, attributes: Attributes, invocation: Invocation) -> bool:
        """Applies a policy's mutations, and tells whether they changed the object."""
        assert attributes.new is not None
        before = encoding.encode(attributes.new)
        policy = invocation.policy
        for number, mutation in enumerate(policy.mutations):
            try:
                if not await self._mutate(attributes, invocation, mutation, first=number == 0):
                    return False
            except (EvaluationError, ApiError) as error:
                _failed(attributes, policy, invocation.binding, str(error))
        return encoding.encode(attributes.new) != before

    async def _mutate(self, attributes: Attributes, invocation: Invocation, mutation: Mutation, *, first: bool) -> bool:
        """Applies one mutation. Returns False if the policy's conditions say that the write does not concern it."""
        assert attributes.new is not None
        policy, kind = invocation.policy, invocation.kind
        if attributes.verb == "create":
            self._client.resources.complete(attributes.kind, attributes.new)
        seen = await shown(attributes, kind)
        known: dict[str, Any] = {**self._bound.variables(attributes, seen), **({"params": invocation.params} if policy.param_kind else {})}
        if first and not await all_hold(policy.conditions, known):
            return False
        known["variables"] = await policy.read_by((mutation.expression,), known)
        result = await value(mutation.expression, known)
        obj = encoding.decode(encoding.encode(seen.new or {}))
        if mutation.type == APPLY:
            body = kind if not attributes.subresource else self._client.resources.body_kind(kind, attributes.subresource)
            patched = self._applied(body, obj, messages.configuration(result))
        else:
            patched = _patched(obj, messages.patch(result))
        if patched != obj:
            await take(self._client.resources, attributes, kind, patched)
        return True

    def _applied(self, kind: Kind, obj: Object, config: Object) -> Object:
        type_ = self._client.resources.schema.type_of(kind.group, kind.version, kind.kind)
        config = {"apiVersion": kind.api_version, "kind": kind.kind, **config}
        if wrong := list(fieldset.problems(type_, config)):
            raise EvaluationError(f"error applying patch: failed to convert patch object to typed object: {'; '.join(wrong)}")
        if atomic := list(_atomic(type_, config, "")):
            said = ", ".join(atomic)
            raise EvaluationError(
                f"error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {said}"
            )
        return apply.merge(type_, deepcopy(obj), config)


def _atomic(type_: Type, value: Any, path: str) -> Iterator[str]:
    """Yields the paths of lists and maps in an apply configuration that would replace what is there as a whole."""
    if isinstance(value, dict) and type_.shape in ("struct", "map"):
        if type_.map_type == "atomic":
            yield path
        for key, each in value.items():
            yield from _atomic(fieldset.child(type_, f"{key}"), each, f"{path}.{key}")
    elif isinstance(value, list) and type_.shape == "list":
        if type_.list_type == "atomic":
            yield path
        for number, each in enumerate(value):
            yield from _atomic(type_.item or fieldset.ANY, each, f"{path}[{number}]")


def _patched(obj: Object, operations: list[Object]) -> Object:
    try:
        return json_patch.apply(operations, deepcopy(obj))
    except ApiError as error:
        if json_patch.is_failed_test(error):
            return obj  # as Kubernetes has it: a test that fails makes the whole patch nothing
        raise EvaluationError(f"JSONPath: {json_patch.why_not(error)}") from None


def _failed(attributes: Attributes, policy: Policy, binding: Binding, why: str) -> None:
    if not policy.fails:
        return
    message = f"policy '{policy.name}' with binding '{binding.name}' denied request: {why}"
    refused = failures.forbidden(attributes.kind, attributes.name, message, [{"message": message}])
    raise ApiError(422, "Invalid", str(refused), details=refused.details)
