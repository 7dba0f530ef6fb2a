"""Checks the expressions of ValidatingAdmissionPolicies against the schemas of the kinds that they are about: `status.typeChecking`.

A policy is stored whatever this finds: it may be about kinds that come later. What is found are warnings for its author. As in Kubernetes, a policy is looked
at once for each change of it, for at most ten kinds, and not where a rule has a wildcard in its groups or versions.
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
from labctl.resources.schema.definitions import Schema, builtin_schema

POLICIES = "validatingadmissionpolicies.admissionregistration.k8s.io"
MOST_KINDS = 10
MOST_COMPILED = 500
"""Each takes up to some milliseconds on the loop; what comes after these is not checked."""


class PolicyTypes:
    name = "validatingadmissionpolicy-status-controller"
    kind = POLICIES

    def __init__(self, registry: Registry, schema: Schema | None = None) -> None:
        self._registry = registry
        self._schema = schema
        self.watches = {POLICIES: lambda _view, seen: (seen.key,)}
        self.indexes: Mapping[tuple[str, str], Index] = {}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        policy: GenericObject | None = view.get(POLICIES, key)
        if policy is None or policy.at("status.observedGeneration") == policy.metadata.generation:
            return NOTHING
        warnings = list(self.warnings(policy.at("spec", {})))
        status = {"observedGeneration": policy.metadata.generation, "typeChecking": {"expressionWarnings": warnings or None}}
        why = f"its expressions were checked: {len(warnings)} warnings"
        return Plan([Patch(POLICIES, key, {"status": status}, "status", revision=policy.metadata.revision, why=why)])

    def warnings(self, spec: Object) -> Iterator[Object]:
        """Yields a warning for each expression that does not fit one of the kinds."""
        kinds = sorted(self._kinds(spec), key=lambda kind: (kind.group, kind.version, kind.kind))[:MOST_KINDS]
        checked = {kind: environment for kind in kinds if (environment := self._environment(spec, kind)) is not None}
        for number, validation in enumerate((spec.get("validations") or ())[: MOST_COMPILED // 2 // max(1, len(checked))]):
            for field in ("expression", "messageExpression"):
                found = {kind: environment.problem(validation[field]) for kind, environment in checked.items() if validation.get(field)}
                said = [f"{kind.api_version}, Kind={kind.kind}: {problem}\n" for kind, problem in found.items() if problem]
                if said:
                    yield {"fieldRef": f"spec.validations[{number}].{field}", "warning": "\n".join(said)}

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

    def _environment(self, spec: Object, kind: Kind) -> Any:
        """Returns an environment for this kind of object; None for a kind that has no schema."""
        from labctl.resources.cel.typed import TypedEnvironment  # only a lab with policies pays for it

        self._schema = self._schema or builtin_schema(self._registry)
        type_ = self._schema.type_of(kind.group, kind.version, kind.kind)
        if type_.shape != "struct":
            return None
        typed = {"object": type_, "oldObject": type_}
        said = spec.get("paramKind") or {}
        params = self._registry.of(said.get("apiVersion", ""), said.get("kind", ""))
        if params is not None and (of_params := self._schema.type_of(params.group, params.version, params.kind)).shape == "struct":
            typed["params"] = of_params
        return TypedEnvironment({name: word for name, word in variables_of(spec).items() if name not in typed}, typed)
