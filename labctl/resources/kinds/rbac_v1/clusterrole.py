"""ClusterRole: rules about all objects and paths. Those with an aggregationRule get their rules from other ClusterRoles (controllers/aggregation.py)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from labctl.resources.cells import NAME
from labctl.resources.kind import FieldError, Kind, Object, Viewed
from labctl.resources.kinds.rbac_v1 import rules
from labctl.resources.kinds.rbac_v1.role import CREATED
from labctl.resources.kinds.rbac_v1.rules import GROUP, PolicyRule


class AggregationRule(msgspec.Struct, frozen=True, rename="camel", gc=False):
    cluster_role_selectors: tuple[msgspec.Raw, ...] = ()  # selectors.of_json reads each


class ClusterRole(Viewed, frozen=True, rename="camel", gc=False):
    rules: tuple[PolicyRule, ...] | None = None
    aggregation_rule: AggregationRule | None = None


def validate(new: Object, _old: Object | None) -> Iterator[FieldError]:
    yield from rules.rules(new, namespaced=False)
    yield from rules.aggregation(new)


KIND = Kind(
    group=GROUP,
    version="v1",
    kind="ClusterRole",
    plural="clusterroles",
    singular="clusterrole",
    namespaced=False,
    view=ClusterRole,
    columns=(NAME, CREATED),
    name_rule="path",
    validate=validate,
)
