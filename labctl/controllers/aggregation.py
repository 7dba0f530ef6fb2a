"""Aggregation: a ClusterRole with an aggregationRule holds the rules of all ClusterRoles whose labels it selects, as `admin`, `edit` and `view` do.

So who installs a kind of their own gives the right to use it to everybody who may edit, by one label on a role. Keys: names of ClusterRoles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

import msgspec

from labctl.controllers.indexes import CLUSTER_ROLES
from labctl.reconcile.plan import NOTHING, Index, Key, Patch, Plan, Seen, View
from labctl.resources.kinds.rbac_v1.clusterrole import ClusterRole
from labctl.resources.kinds.rbac_v1.rules import PolicyRule
from labctl.resources.selectors import of_json

_AGGREGATED = "aggregated"


class Aggregation:
    name = "clusterrole-aggregation-controller"
    kind = CLUSTER_ROLES

    def __init__(self) -> None:
        self.watches = {CLUSTER_ROLES: _concerned}
        self.indexes: Mapping[tuple[str, str], Index] = {(CLUSTER_ROLES, _AGGREGATED): _is_aggregated}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        role: ClusterRole | None = view.get(CLUSTER_ROLES, key)
        if role is None or role.aggregation_rule is None:
            return NOTHING
        selected = (other for other in view.all(CLUSTER_ROLES) if other.metadata.name != key and _selects(role, other))
        rules = tuple(dict.fromkeys(rule for other in selected for rule in other.rules or ()))
        if rules == (role.rules or ()):
            return NOTHING
        patch = {"rules": [_plain(rule) for rule in rules]}
        return Plan(
            [Patch(CLUSTER_ROLES, key, patch, revision=role.metadata.revision, why="it has the rules of the roles that it selects")]
        )


def _is_aggregated(role: ClusterRole) -> Iterable[str]:
    return ("yes",) if role.aggregation_rule is not None else ()


def _concerned(view: View, seen: Seen) -> Iterable[Key]:
    """Return the role itself, and the roles that select it now or did before."""
    states = [state for state in (seen.old, seen.new) if state is not None]
    aggregated = view.by(CLUSTER_ROLES, _AGGREGATED, "yes")
    return [seen.key, *(role.metadata.name for role in aggregated if any(_selects(role, state) for state in states))]


def _selects(role: ClusterRole, other: ClusterRole) -> bool:
    assert role.aggregation_rule is not None, "only aggregated roles select"
    return any(of_json(bytes(raw)).matches(other.metadata.labels) for raw in role.aggregation_rule.cluster_role_selectors)


def _plain(rule: PolicyRule) -> dict[str, Any]:
    said: dict[str, Any] = msgspec.to_builtins(rule)
    return {field: list(values) for field, values in said.items() if values}
