"""FlowSchema: which requests belong to which priority level. labctl keeps it for programs; its API treats all requests alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labctl.resources import fields, names
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import KEEPS_METADATA, Column, FieldError, Kind, Object, Subresource, TypeDefaults
from labctl.resources.kinds.inert import at, stored_only

NO_LEVELS = "labctl stores this object, but its API treats all requests alike: it has no priority levels"
_HIGHEST = 10_000
_VERBS = frozenset({"create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"})
_SUBJECTS = {"Group": "group", "ServiceAccount": "serviceAccount", "User": "user"}


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {}


def validate(new: Object, _old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec") or {}
    precedence = spec.get("matchingPrecedence", 1000)
    if precedence <= 0:
        yield fields.invalid("spec.matchingPrecedence", precedence, "must be a positive value")
    if precedence > _HIGHEST:
        yield fields.invalid("spec.matchingPrecedence", precedence, f"must not be greater than {_HIGHEST}")
    if precedence == 1 and new["metadata"].get("name") != "exempt":
        yield fields.invalid("spec.matchingPrecedence", precedence, "only the schema named 'exempt' may have matchingPrecedence 1")
    level = (spec.get("priorityLevelConfiguration") or {}).get("name", "")
    if not level:
        yield fields.required("spec.priorityLevelConfiguration.name", "must reference a priority level")
    else:
        yield from names.checked("spec.priorityLevelConfiguration.name", level, names.subdomain)
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in ("ByNamespace", "ByUser"):
        yield fields.not_supported("spec.distinguisherMethod.type", method.get("type", ""), ("ByNamespace", "ByUser"))
    for index, rule in enumerate(spec.get("rules") or ()):
        yield from _rule(f"spec.rules[{index}]", rule)


def _rule(path: str, rule: Object) -> Iterator[FieldError]:
    if not rule.get("subjects"):
        yield fields.required(f"{path}.subjects", "subjects must contain at least one value")
    for index, subject in enumerate(rule.get("subjects") or ()):
        yield from _subject(f"{path}.subjects[{index}]", subject)
    if not rule.get("resourceRules") and not rule.get("nonResourceRules"):
        yield fields.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty")
    for index, each in enumerate(rule.get("resourceRules") or ()):
        yield from _resource_rule(f"{path}.resourceRules[{index}]", each)
    for index, each in enumerate(rule.get("nonResourceRules") or ()):
        yield from _path_rule(f"{path}.nonResourceRules[{index}]", each)


def _subject(path: str, subject: Object) -> Iterator[FieldError]:
    kind = subject.get("kind", "")
    if kind not in _SUBJECTS:
        yield fields.not_supported(f"{path}.kind", kind, _SUBJECTS)
        return
    at, said = f"{path}.{_SUBJECTS[kind]}", subject.get(_SUBJECTS[kind])
    if said is None:
        yield fields.required(at, f"{_SUBJECTS[kind]} is required when subject kind is '{kind}'")
    elif not said.get("name"):
        yield fields.required(f"{at}.name")
    elif kind == "ServiceAccount" and said["name"] != "*":
        yield from names.checked(f"{at}.name", said["name"], names.subdomain)
    if said is not None and kind == "ServiceAccount" and not said.get("namespace"):
        yield fields.required(f"{at}.namespace", "must specify namespace for service account")
    elif said is not None and kind == "ServiceAccount":
        yield from names.checked(f"{at}.namespace", said["namespace"], names.label)
    for other, part in _SUBJECTS.items():
        if other != kind and subject.get(part) is not None:
            yield fields.forbidden(f"{path}.{part}", f"{part} is forbidden when subject kind is not '{other}'")


def _verbs(path: str, rule: Object) -> Iterator[FieldError]:
    verbs = rule.get("verbs") or ()
    if not verbs:
        yield fields.required(f"{path}.verbs", "verbs must contain at least one value")
    elif "*" in verbs:
        yield from _alone(f"{path}.verbs", verbs, "verbs")
    elif not _VERBS.issuperset(verbs):
        yield fields.not_supported(f"{path}.verbs", verbs, _VERBS)


def _alone(path: str, values: Sequence[str], words: str) -> Iterator[FieldError]:
    if "*" in values and len(values) > 1:
        yield fields.invalid(path, values, f"if '*' is present, must not specify other {words}")


def _resource_rule(path: str, rule: Object) -> Iterator[FieldError]:
    yield from _verbs(path, rule)
    for name, one, words in (("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")):
        if not rule.get(name):
            yield fields.required(f"{path}.{name}", f"resource rules must supply at least one {one}")
        else:
            yield from _alone(f"{path}.{name}", rule[name], words)
    spaces = rule.get("namespaces") or ()
    if not spaces and not rule.get("clusterScope"):
        yield fields.required(f"{path}.namespaces", "resource rules that are not cluster scoped must supply at least one namespace")
    elif "*" in spaces:
        yield from _alone(f"{path}.namespaces", spaces, "namespaces")
    else:
        for index, name in enumerate(spaces):
            for why in names.label(name):
                intro = "each member of this list must be '*' or a DNS-1123 label; "
                yield fields.invalid(f"{path}.namespaces[{index}]", name, intro + why)


def _path_rule(path: str, rule: Object) -> Iterator[FieldError]:
    yield from _verbs(path, rule)
    urls = rule.get("nonResourceURLs") or ()
    if not urls:
        yield fields.required(f"{path}.nonResourceURLs", "nonResourceURLs must contain at least one value")
    elif "*" in urls:
        yield from _alone(f"{path}.nonResourceURLs", urls, "non-resource URLs")
    else:
        for index, url in enumerate(urls):
            why = _wrong_path(url)
            if why:
                yield fields.invalid(f"{path}.nonResourceURLs[{index}]", url, why)


def _wrong_path(url: str) -> str:
    if not url or url == "/":
        return "" if url else "must not be empty"
    if not url.startswith("/"):
        return "must start with slash"
    if " " in url:
        return "must not contain white-space"
    if "//" in url:
        return "must not contain double slash"
    stars = url.count("*")
    return "wildcard can only do suffix matching" if stars > 1 or (stars and not url.endswith("/*")) else ""


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
    subresources=(Subresource("status", ("get", "patch", "update"), keeps=KEEPS_METADATA),),
    has_status=True,
    has_generation=True,
    prepare=prepare,
    validate=validate,
    warnings=stored_only(NO_LEVELS),
    type_defaults={"io.k8s.api.flowcontrol.v1.FlowSchemaSpec": TypeDefaults(zero={"matchingPrecedence": 1000})},
)
