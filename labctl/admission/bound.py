"""What validating and mutating policies have in common: bindings make a policy count, may narrow it, and name its parameters.

policies.py and mutations.py ask here which policies concern a write, with which parameters, and what their expressions may read. Policies and bindings are
compiled once for each of their revisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from labctl.admission.authorizer import authorizer_of
from labctl.admission.conditions import Condition, conditions_of, value
from labctl.admission.matching import NAMESPACES, Match, is_exempt
from labctl.admission.reviews import Shown, request
from labctl.resources import encoding
from labctl.resources.admission import Attributes
from labctl.resources.cel.estimate import MOST_SIZE
from labctl.resources.cel.expressions import Environment, EvaluationError, Expression
from labctl.resources.cel.tree import Select, names, walk
from labctl.resources.client import Client
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Kind, Object
from labctl.resources.kinds.admissionregistration_v1.validatingadmissionpolicy import variables_of
from labctl.resources.rbac.matching import Permissions
from labctl.resources.service import ListOptions

NO_PARAMS = "no params found for policy binding with `Deny` parameterNotFoundAction"


class Policy:
    """What is the same in both kinds of policies, compiled. `known` are the names and types that its expressions may use."""

    def __init__(self, name: str, spec: Object) -> None:
        self.name = name
        self.fails = spec.get("failurePolicy", "Fail") == "Fail"
        self.param_kind: Object | None = spec.get("paramKind")
        constraints = spec.get("matchConstraints") or {}
        self.match = Match(constraints, constraints.get("resourceRules") or ())
        self.known = variables_of(spec)
        before = {variable: type_ for variable, type_ in self.known.items() if variable != "variables"}
        self.conditions: list[Condition] = conditions_of(spec.get("matchConditions") or (), before)
        env = Environment(self.known)
        self.variables = {each["name"]: env.compile(each["expression"], "") for each in spec.get("variables") or ()}

    async def read_by(self, expressions: Sequence[Expression | None], known: Mapping[str, Any]) -> dict[str, Any]:
        """Return the policy's variables that these expressions read, and those that these read. One that fails is left out, and whatever reads it fails."""
        wanted: set[str] = set()
        waiting = [each for each in expressions if each is not None]
        while waiting:
            for name in _read(waiting.pop()):
                if name in self.variables and name not in wanted:
                    wanted.add(name)
                    waiting.append(self.variables[name])
        values: dict[str, Any] = {}
        for name, expression in self.variables.items():
            if name in wanted:
                try:
                    found = await value(expression, {**known, "variables": values})
                except EvaluationError:
                    continue
                if not (isinstance(found, str | bytes | list | dict) and len(found) > MOST_SIZE):  # thirty that double each other were 1 TB
                    values[name] = found
        return values


def _read(expression: Expression) -> Iterator[str]:
    for node in walk(expression.tree):
        if isinstance(node, Select) and names(node.operand, "variables"):
            yield node.field


class Binding(msgspec.Struct, frozen=True):
    name: str
    policy: str
    actions: frozenset[str]
    match: Match
    param: Object | None


P = TypeVar("P", bound=Policy)


class BoundPolicies(Generic[P]):
    """The policies and bindings of one kind, as they are stored. `make` compiles a policy."""

    def __init__(self, client: Client, permissions: Permissions, policies: str, bindings: str, make: Callable[[str, Object], P]) -> None:
        self._client = client
        self._permissions = permissions
        self._resource, self._prefix, self._make = policies, bindings + "/", make
        self._policies: dict[str, tuple[int, P]] = {}
        self._bindings: dict[str, tuple[int, Binding]] = {}

    def concerned(self, attributes: Attributes) -> Iterator[tuple[P, Binding, Kind]]:
        """Yield the policies that are about this write, each with a binding and the version of the object that it wants to see."""
        entries = self._client.resources.store.range(self._prefix).entries
        if not entries or is_exempt(attributes):
            return
        versions = self._client.resources.registry.versions(attributes.kind.resource) or (attributes.kind,)
        for binding in self._bound(entries):
            policy = self._policy(binding.policy)
            kind = policy.match.kind(attributes, versions, self._labels_of) if policy is not None else None
            if policy is None or kind is None or binding.match.kind(attributes, versions, self._labels_of, anything=True) is None:
                continue
            yield policy, binding, kind

    def _bound(self, entries: Sequence[Any]) -> list[Binding]:
        known: dict[str, tuple[int, Binding]] = {}
        for entry in entries:
            found = self._bindings.get(entry.key)
            if found is None or found[0] != entry.revision:
                found = entry.revision, _binding(self._client.resources.view(entry))
            known[entry.key] = found
        self._bindings = known
        return [binding for _, binding in known.values()]

    def _policy(self, name: str) -> P | None:
        view: GenericObject | None = self._client.get(self._resource, name)
        if view is None:
            self._policies.pop(name, None)
            return None
        found = self._policies.get(name)
        if found is None or found[0] != view.metadata.revision:
            found = self._policies[name] = view.metadata.revision, self._make(name, view.at("spec", {}))
        return found[1]

    def _labels_of(self, namespace: str) -> Mapping[str, str] | None:
        found = self._client.get(NAMESPACES, namespace)
        return None if found is None else found.metadata.labels

    def variables(self, attributes: Attributes, seen: Shown) -> dict[str, Any]:
        """Return what every expression about this write may read."""
        asked = {name: said for name, said in request(attributes, seen).items() if name not in ("object", "oldObject")}
        return {
            "object": seen.new,
            "oldObject": seen.old,
            "request": asked,
            "namespaceObject": self._client.raw(NAMESPACES, attributes.namespace) if attributes.kind.namespaced else None,
            "authorizer": authorizer_of(self._permissions, attributes, seen.kind),
        }

    def params(self, attributes: Attributes, policy: Policy, binding: Binding) -> Sequence[Object | None]:
        """Return the objects that the rules are evaluated with, one after the other. Raises EvaluationError."""
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
