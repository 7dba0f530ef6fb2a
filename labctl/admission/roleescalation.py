"""RoleEscalation: nobody gives away more than they hold. Who writes a role must hold all of its rules, or may `escalate`; who writes a binding must hold
all rules of its role, or may `bind` it.

A validating step. In Kubernetes the storage of these kinds checks it, with the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labctl.decoding import from_values
from labctl.resources import failures
from labctl.resources.admission import Attributes, Verb
from labctl.resources.client import Client
from labctl.resources.kind import Object
from labctl.resources.kinds.rbac_v1.rules import GROUP, PolicyRule, RoleRef
from labctl.resources.plurals import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from labctl.resources.rbac.holders import EVERYTHING, Rbac
from labctl.resources.rbac.matching import Request, compact, shown, uncovered
from labctl.resources.service import MASTERS


class RoleEscalation:
    name = "RoleEscalation"
    kinds: frozenset[str] | None = frozenset({ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS})
    verbs: frozenset[Verb] = frozenset({"create", "update"})

    def __init__(self, client: Client, rbac: Rbac) -> None:
        self._client = client
        self._rbac = rbac

    async def admit(self, attributes: Attributes) -> None:
        if MASTERS in attributes.user.groups or attributes.new is None:
            return
        if attributes.kind.resource in (ROLES, CLUSTER_ROLES):
            self._admit_role(attributes, attributes.new)
        else:
            self._admit_binding(attributes, attributes.new)

    def _admit_role(self, attributes: Attributes, new: Object) -> None:
        if _same(attributes, "rules", "aggregationRule"):
            return
        if self._may(attributes, "escalate", attributes.kind.plural, attributes.name):
            return
        rules: Sequence[PolicyRule] = from_values(new.get("rules") or [], tuple[PolicyRule, ...])
        self._refuse_more(attributes, EVERYTHING if new.get("aggregationRule") else rules)

    def _admit_binding(self, attributes: Attributes, new: Object) -> None:
        if _same(attributes, "roleRef", "subjects"):
            return
        reference = from_values(new["roleRef"], RoleRef)
        resource = CLUSTER_ROLES if reference.kind == "ClusterRole" else ROLES
        kind = self._client.resources.registry[resource]
        if self._may(attributes, "bind", kind.plural, reference.name):
            return
        key = reference.name if reference.kind == "ClusterRole" else f"{attributes.namespace}/{reference.name}"
        role: Any = self._client.get(resource, key)
        if role is None:
            raise failures.not_found(kind, reference.name)
        self._refuse_more(attributes, role.rules or ())

    def _may(self, attributes: Attributes, verb: str, resource: str, name: str) -> bool:
        return bool(self._rbac.why_allowed(attributes.user, Request(verb, GROUP, resource, "", attributes.namespace, name)))

    def _refuse_more(self, attributes: Attributes, wanted: Sequence[PolicyRule]) -> None:
        missing = uncovered(self._rbac.rules(attributes.user, attributes.namespace), wanted)
        if not missing:
            return
        user = attributes.user
        groups = " ".join(f'"{group}"' for group in user.groups)
        listed = "\n".join(sorted(shown(rule) for rule in compact(missing)))
        why = f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{listed}'
        raise failures.forbidden(attributes.kind, attributes.name, why)


def _same(attributes: Attributes, *fields: str) -> bool:
    """Tell whether it is an update that gives nobody more rights."""
    old, new = attributes.old, attributes.new
    return old is not None and new is not None and all(old.get(field) == new.get(field) for field in fields)
