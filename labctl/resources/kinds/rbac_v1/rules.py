"""The parts that the four kinds of RBAC share: rules, subjects, references to roles, and what is checked of them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from labctl.resources import fields, names
from labctl.resources.kind import FieldError, Object, TypeDefaults, Viewed
from labctl.resources.kinds.selector_rules import label_selector

GROUP = "rbac.authorization.k8s.io"
_DEFINITIONS = "io.k8s.api.rbac.v1."
_SUBJECT_GROUPS = {"ServiceAccount": "", "User": GROUP, "Group": GROUP}


class PolicyRule(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Allows verbs on resources (of these groups, with these names), or on paths that name no resource. `*` is everything."""

    verbs: tuple[str, ...] = ()
    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()
    non_resource_urls: tuple[str, ...] = msgspec.field(default=(), name="nonResourceURLs")


class Subject(msgspec.Struct, frozen=True, rename="camel", gc=False):
    kind: str = ""  # User, Group, ServiceAccount
    name: str = ""
    namespace: str = ""
    api_group: str = ""


class RoleRef(msgspec.Struct, frozen=True, rename="camel", gc=False):
    kind: str = ""  # Role, ClusterRole
    name: str = ""
    api_group: str = ""


class Binding(Viewed, frozen=True, rename="camel", gc=False):
    """The view of RoleBinding and of ClusterRoleBinding."""

    role_ref: RoleRef = RoleRef()
    subjects: tuple[Subject, ...] = ()


def rules(said: Object, *, namespaced: bool) -> Iterator[FieldError]:
    """Yield what is wrong with the rules of a role."""
    for index, rule in enumerate(said.get("rules") or ()):
        path = f"rules[{index}]"
        if not rule.get("verbs"):
            yield fields.required(f"{path}.verbs", "verbs must contain at least one value")
        if rule.get("nonResourceURLs"):
            yield from _paths(path, rule, namespaced)
            continue
        if not rule.get("apiGroups"):
            yield fields.required(f"{path}.apiGroups", "resource rules must supply at least one api group")
        if not rule.get("resources"):
            yield fields.required(f"{path}.resources", "resource rules must supply at least one resource")


def aggregation(new: Object) -> Iterator[FieldError]:
    """Yield what is wrong with the selectors by which a ClusterRole finds the roles whose rules it has."""
    said = new.get("aggregationRule")
    if said is None:
        return
    path = "aggregationRule.clusterRoleSelectors"
    if not said.get("clusterRoleSelectors"):
        yield fields.required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil")
    for index, selector in enumerate(said.get("clusterRoleSelectors") or ()):
        yield from label_selector(f"{path}[{index}]", selector, may_be_empty=True)


def _paths(path: str, rule: Object, namespaced: bool) -> Iterator[FieldError]:
    said = rule["nonResourceURLs"]
    if namespaced:
        yield fields.invalid(f"{path}.nonResourceURLs", said, "namespaced rules cannot apply to non-resource URLs")
    if any(rule.get(field) for field in ("apiGroups", "resources", "resourceNames")):
        yield fields.invalid(f"{path}.nonResourceURLs", said, "rules cannot apply to both regular resources and non-resource URLs")


def binding(new: Object, old: Object | None, *, namespaced: bool) -> Iterator[FieldError]:
    """Yield what is wrong with a binding. Its role can't be changed, because who may bind one role may not be allowed to bind another."""
    reference = new.get("roleRef") or {}
    if reference.get("apiGroup", "") != GROUP:
        yield fields.not_supported("roleRef.apiGroup", reference.get("apiGroup", ""), (GROUP,))
    kinds = ("ClusterRole", "Role") if namespaced else ("ClusterRole",)
    if reference.get("kind", "") not in kinds:
        yield fields.not_supported("roleRef.kind", reference.get("kind", ""), kinds)
    if not reference.get("name"):
        yield fields.required("roleRef.name")
    else:
        yield from names.checked("roleRef.name", reference["name"], names.path_segment)
    for index, subject in enumerate(new.get("subjects") or ()):
        yield from _subject(f"subjects[{index}]", subject, namespaced)
    if old is not None and reference != old.get("roleRef"):
        yield fields.invalid("roleRef", reference, "cannot change roleRef")


def _subject(path: str, subject: Object, namespaced: bool) -> Iterator[FieldError]:
    """Check a subject. A ServiceAccount without a namespace is one of the binding's own, if the binding has one."""
    kind = subject.get("kind", "")
    if not subject.get("name"):
        yield fields.required(f"{path}.name")
    if kind not in _SUBJECT_GROUPS:
        yield fields.not_supported(f"{path}.kind", kind, _SUBJECT_GROUPS)
        return
    group = _SUBJECT_GROUPS[kind]
    if subject.get("apiGroup", "") != group:
        yield fields.not_supported(f"{path}.apiGroup", subject.get("apiGroup", ""), (group,))
    if kind == "ServiceAccount":
        if subject.get("name"):
            yield from names.checked(f"{path}.name", subject["name"], names.subdomain)
        if not namespaced and not subject.get("namespace"):
            yield fields.required(f"{path}.namespace")


def _subject_defaults(subject: Object) -> None:
    group = _SUBJECT_GROUPS.get(subject.get("kind", ""), "")
    if group and not subject.get("apiGroup"):
        subject["apiGroup"] = group


BINDING_TYPES = {
    _DEFINITIONS + "RoleRef": TypeDefaults(zero={"apiGroup": GROUP}),
    _DEFINITIONS + "Subject": TypeDefaults(function=_subject_defaults),
}


def role_title(view: Binding, _now_s: float) -> str:
    """Return the column Role, as kubectl prints it: `ClusterRole/edit`."""
    return f"{view.role_ref.kind}/{view.role_ref.name}"


def users(view: Binding, _now_s: float) -> str:
    return ", ".join(subject.name for subject in view.subjects if subject.kind == "User")


def groups(view: Binding, _now_s: float) -> str:
    return ", ".join(subject.name for subject in view.subjects if subject.kind == "Group")


def accounts(view: Binding, _now_s: float) -> str:
    return ", ".join(f"{subject.namespace}/{subject.name}" for subject in view.subjects if subject.kind == "ServiceAccount")
