"""RoleBinding: gives users, groups and ServiceAccounts a Role, or the rules of a ClusterRole within one namespace."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, FieldError, Kind, Object
from labctl.resources.kinds.rbac_v1 import rules
from labctl.resources.kinds.rbac_v1.rules import GROUP, Binding


class RoleBinding(Binding, frozen=True, rename="camel", gc=False):
    pass


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    return rules.binding(new, old, namespaced=True)


KIND = Kind(
    group=GROUP,
    version="v1",
    kind="RoleBinding",
    plural="rolebindings",
    singular="rolebinding",
    namespaced=True,
    view=RoleBinding,
    columns=(
        NAME,
        Column("Role", rules.role_title, description="The role it gives."),
        AGE,
        Column("Users", rules.users, priority=1, description="The users that have the role."),
        Column("Groups", rules.groups, priority=1, description="The groups whose members have the role."),
        Column("ServiceAccounts", rules.accounts, priority=1, description="The ServiceAccounts that have the role."),
    ),
    name_rule="path",
    validate=validate,
    type_defaults=rules.BINDING_TYPES,
)
