"""Role: rules about the objects of one namespace. A RoleBinding says who has it."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources.cells import NAME
from labctl.resources.kind import Column, FieldError, Kind, Object, Viewed
from labctl.resources.kinds.rbac_v1 import rules
from labctl.resources.kinds.rbac_v1.rules import GROUP, PolicyRule


class Role(Viewed, frozen=True, rename="camel", gc=False):
    rules: tuple[PolicyRule, ...] | None = None


def validate(new: Object, _old: Object | None) -> Iterator[FieldError]:
    return rules.rules(new, namespaced=True)


CREATED = Column("Created At", lambda role, _now: role.metadata.creation_timestamp or "", format="date", description="When it was made.")

KIND = Kind(
    group=GROUP,
    version="v1",
    kind="Role",
    plural="roles",
    singular="role",
    namespaced=True,
    view=Role,
    columns=(NAME, CREATED),
    name_rule="path",
    validate=validate,
)
