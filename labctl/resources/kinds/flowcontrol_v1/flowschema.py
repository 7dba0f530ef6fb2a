"""FlowSchema: which requests belong to which priority level. labctl keeps it for programs; its API treats all requests alike."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource, TypeDefaults
from labctl.resources.kinds.inert import at, stored_only

NO_LEVELS = "labctl stores this object, but its API treats all requests alike: it has no priority levels"
_HIGHEST = 10_000
_SUBJECTS = {"Group": "group", "ServiceAccount": "serviceAccount", "User": "user"}


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {}


def validate(new: Object, _old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    precedence = spec.get("matchingPrecedence", 1000)
    if not 1 <= precedence <= _HIGHEST:
        yield fields.invalid("spec.matchingPrecedence", precedence, f"must be a value between 1 and {_HIGHEST}, inclusive")
    if precedence == 1 and new["metadata"].get("name") != "exempt":
        yield fields.invalid("spec.matchingPrecedence", precedence, "only the schema named 'exempt' may have matchingPrecedence 1")
    level = (spec.get("priorityLevelConfiguration") or {}).get("name", "")
    if not level:
        yield fields.required("spec.priorityLevelConfiguration.name", "must reference a priority level")
    else:
        yield from names.checked("spec.priorityLevelConfiguration.name", level, names.subdomain)
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in ("ByNamespace", "ByUser"):
        yield fields.not_supported("spec.distinguisherMethod", method, ("ByNamespace", "ByUser"))
    for index, rule in enumerate(spec.get("rules") or ()):
        yield from _rule(f"spec.rules[{index}]", rule)


def _rule(path: str, rule: Object) -> Iterator[FieldError]:
    if not rule.get("subjects"):
        yield fields.required(f"{path}.subjects", "subjects must contain at least one value")
    for index, subject in enumerate(rule.get("subjects") or ()):
        below, kind = f"{path}.subjects[{index}]", subject.get("kind", "")
        if kind not in _SUBJECTS:
            yield fields.not_supported(f"{below}.kind", kind, _SUBJECTS)
        elif subject.get(_SUBJECTS[kind]) is None:
            yield fields.required(f"{below}.{_SUBJECTS[kind]}", f"{_SUBJECTS[kind]} is required when subject kind is '{kind}'")
    if not rule.get("resourceRules") and not rule.get("nonResourceRules"):
        yield fields.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty")
    for index, each in enumerate(rule.get("resourceRules") or ()):
        below = f"{path}.resourceRules[{index}]"
        for name in ("apiGroups", "resources", "verbs"):
            if not each.get(name):
                yield fields.required(f"{below}.{name}")
        if not each.get("namespaces") and not each.get("clusterScope"):
            yield fields.required(f"{below}.namespaces", "resource rules that are not cluster scoped must supply at least one namespace")
    for index, each in enumerate(rule.get("nonResourceRules") or ()):
        for name in ("nonResourceURLs", "verbs"):
            if not each.get(name):
                yield fields.required(f"{path}.nonResourceRules[{index}].{name}")


def _missing(view: GenericObject, _now_s: float) -> str:
    """What somebody's controller wrote about the level that the schema names."""
    said = {each.get("type"): each.get("status") for each in view.at("status.conditions") or () if isinstance(each, dict)}
    return str(said.get("Dangling", "?"))


KIND = Kind(
    group="flowcontrol.apiserver.k8s.io",
    version="v1",
    kind="FlowSchema",
    plural="flowschemas",
    singular="flowschema",
    namespaced=False,
    view=GenericObject,
    columns=(
        NAME,
        Column("PriorityLevel", at("spec.priorityLevelConfiguration.name"), description="The level that its requests belong to."),
        Column("MatchingPrecedence", at("spec.matchingPrecedence"), type="integer", description="Lower numbers are looked at first."),
        Column("DistinguisherMethod", at("spec.distinguisherMethod.type", "<none>"), description="What makes a flow of its own."),
        AGE,
        Column("MissingPL", _missing, description="Whether the level does not exist."),
    ),
    subresources=(Subresource("status", ("get", "patch", "update")),),
    has_status=True,
    has_generation=True,
    prepare=prepare,
    validate=validate,
    warnings=stored_only(NO_LEVELS),
    type_defaults={"io.k8s.api.flowcontrol.v1.FlowSchemaSpec": TypeDefaults(zero={"matchingPrecedence": 1000})},
)
