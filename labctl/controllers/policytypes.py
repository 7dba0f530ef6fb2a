"""Checks the expressions of ValidatingAdmissionPolicies against the schemas of the kinds that they are about: `status.typeChecking`.

A policy is stored whatever this finds: it may be about kinds that come later. What is found are warnings for its author. As in Kubernetes, each change of a policy is checked
once, for at most ten kinds, and not where a rule has a wildcard in its groups or versions. The work is done in pieces, each in a plan
of its own, and what has been compiled is kept from one to the next: all of it at once would hold every other request for half a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from labctl.reconcile.plan import NOTHING, Index, Key, Patch, Plan, View
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Kind, Object
from labctl.resources.kinds.admissionregistration_v1.validatingadmissionpolicy import variables_of
from labctl.resources.registry import Registry
from labctl.resources.schema.definitions import Schema, Type, builtin_schema

POLICIES = "validatingadmissionpolicies.admissionregistration.k8s.io"
MOST_KINDS = 10
MOST_COMPILED = 500
"""What comes after these is not checked."""
AT_ONCE = 25
"""Expressions that are compiled in one plan: each takes up to some milliseconds on the loop, and others wait for their answers meanwhile."""


_FIELDS = ("expression", "messageExpression")


class PolicyTypes:
    name = "validatingadmissionpolicy-status-controller"
    kind = POLICIES

    def __init__(self, registry: Registry, schema: Schema | None = None) -> None:
        self._registry = registry
        self._schema = schema
        self.watches = {POLICIES: lambda _view, seen: (seen.key,)}
        self.indexes: Mapping[tuple[str, str], Index] = {}
        self._begun: dict[Key, tuple[tuple[str, int], Iterator[list[Object] | None]]] = {}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        policy: GenericObject | None = view.get(POLICIES, key)
        if policy is None or policy.at("status.observedGeneration") == policy.metadata.generation:
            self._begun.pop(key, None)
            return NOTHING
        about = (policy.metadata.uid, policy.metadata.generation)
        if key not in self._begun or self._begun[key][0] != about:
            self._begun[key] = (about, self._checked(policy.at("spec", {})))
        warnings = next(self._begun[key][1], [])
        if warnings is None:
            return Plan([], again_s=0.0, why="its expressions are being checked")
        self._begun.pop(key)
        status = {"observedGeneration": policy.metadata.generation, "typeChecking": {"expressionWarnings": warnings or None}}
        why = f"its expressions were checked: {len(warnings)} warnings"
        return Plan([Patch(POLICIES, key, {"status": status}, "status", revision=policy.metadata.revision, why=why)])

    def _checked(self, spec: Object) -> Iterator[list[Object] | None]:
        """Yields None between pieces of the work, and in the end the warnings: one for each expression that does not fit one of the kinds."""
        kinds = sorted(self._kinds(spec), key=lambda kind: (kind.group, kind.version, kind.kind))[:MOST_KINDS]
        checked = [kind for kind in kinds if self._type(kind) is not None]
        validations = (spec.get("validations") or ())[: MOST_COMPILED // 2 // max(1, len(checked))]
        asked = [(number, field, said[field]) for number, said in enumerate(validations) for field in _FIELDS if said.get(field)]
        found: dict[tuple[int, str], list[str]] = {}
        for kind in checked:
            environment = self._environment(spec, kind)
            for count, (number, field, text) in enumerate(asked):
                if count % AT_ONCE == 0:
                    yield None
                if problem := environment.problem(text):
                    found.setdefault((number, field), []).append(f"{kind.api_version}, Kind={kind.kind}: {problem}\n")
        told = sorted(found.items(), key=lambda each: (each[0][0], _FIELDS.index(each[0][1])))
        yield [{"fieldRef": f"spec.validations[{number}].{field}", "warning": "\n".join(said)} for (number, field), said in told]

    def _kinds(self, spec: Object) -> set[Kind]:
        """Returns the kinds that the policy's rules name: none where a group or a version is a wildcard."""
        found: set[Kind] = set()
        for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
            groups, versions = rule.get("apiGroups") or (), rule.get("apiVersions") or ()
            if any("*" in text for text in (*groups, *versions)):
                continue
            resources = [name for name in rule.get("resources") or () if "*" not in name and "/" not in name]
            named = (self._registry.in_group(group, version, name) for group in groups for version in versions for name in resources)
            found |= {kind for kind in named if kind is not None}
        return found

    def _type(self, kind: Kind) -> Type | None:
        """Returns the type of a kind's objects; None for a kind that has no schema."""
        self._schema = self._schema or builtin_schema(self._registry)
        type_ = self._schema.type_of(kind.group, kind.version, kind.kind)
        return type_ if type_.shape == "struct" else None

    def _environment(self, spec: Object, kind: Kind) -> Any:
        """Returns an environment for objects of a kind that has a schema."""
        from labctl.resources.cel.typed import TypedEnvironment  # only a lab with policies pays for it

        type_ = self._type(kind)
        assert type_ is not None
        typed = {"object": type_, "oldObject": type_}
        said = spec.get("paramKind") or {}
        params = self._registry.of(said.get("apiVersion", ""), said.get("kind", ""))
        if params is not None and (of_params := self._type(params)) is not None:
            typed["params"] = of_params
        return TypedEnvironment({name: word for name, word in variables_of(spec).items() if name not in typed}, typed)
