"""Who holds which rules, now: an index of all bindings by their subjects, kept up to date with the store.

    bindings ══ watch ══► subject and namespace → roles      roles are read from the store by their key

A question takes up what the two watches brought since the last one, so a binding counts from the moment in which its write is answered, and no question
walks a list. Nothing is indexed before the first question of somebody who is no admin.
"""

from __future__ import annotations

from collections.abc import Iterator

from labctl.errors import Lagging
from labctl.resources.kinds.rbac_v1.rules import Binding, PolicyRule, RoleRef, Subject
from labctl.resources.plurals import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from labctl.resources.rbac.matching import Request, RuleSet
from labctl.resources.resources import Resources
from labctl.resources.service import MASTERS, SERVICE_ACCOUNT_PREFIX, User
from labctl.store.interface import Batch, Entry, Watch

_KINDS = {CLUSTER_ROLE_BINDINGS: "ClusterRoleBinding", ROLE_BINDINGS: "RoleBinding"}
EVERYTHING = (PolicyRule(("*",), ("*",), ("*",)), PolicyRule(("*",), non_resource_urls=("*",)))

_NO_RULES = RuleSet(())
RULE_SETS_MAX = 10_000

Holder = tuple[str, str, str]
"""Namespace of the binding (empty: of the whole lab), kind and name of the subject."""


class Grant:
    """One binding, as far as one of its subjects is concerned."""

    __slots__ = ("binding", "namespace", "role", "subject")

    def __init__(self, binding: str, namespace: str, role: RoleRef, subject: Subject) -> None:
        self.binding = binding  # RoleBinding "read/default"
        self.namespace = namespace
        self.role = role
        self.subject = subject

    @property
    def why(self) -> str:
        """Return the reason in the words of Kubernetes' authorizer."""
        who = f"{self.subject.name}/{self.subject.namespace}" if self.subject.namespace else self.subject.name
        return f'RBAC: allowed by {self.binding} of {self.role.kind} "{self.role.name}" to {self.subject.kind} "{who}"'


class Rbac:
    """Asked by the authorizer, by access reviews and by the escalation check. `system:masters` hold everything without a look at any object."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._store = resources.store
        self._grants: dict[Holder, dict[str, Grant]] = {}
        self._watches: list[Watch] = []
        self._rule_sets: dict[str, tuple[int, RuleSet]] = {}  # by the role's key: its revision, and its rules

    def why_allowed(self, user: User, request: Request) -> str:
        """Return the reason why the user may do this, or "" if nothing allows it."""
        for grant, rules in self._held(user, request.namespace):
            if rules.allows(request) and not (request.path and grant.namespace):
                return grant.why
        return ""

    def rules(self, user: User, namespace: str) -> list[PolicyRule]:
        """Return every rule that the user has in a namespace. With an empty namespace: those that hold everywhere."""
        if MASTERS in user.groups:
            return list(EVERYTHING)
        return [rule for _, held in self._held(user, namespace) for rule in held.rules]

    def _rules_of(self, role: RoleRef, namespace: str) -> RuleSet:
        """Return the rules of a role that a binding in that namespace names; none if there is no such role."""
        key = f"{ROLES}/{namespace}/{role.name}" if role.kind == "Role" else f"{CLUSTER_ROLES}/{role.name}"
        entry = self._store.get(key)
        if entry is None:
            return _NO_RULES
        revision, known = self._rule_sets.get(key, (0, _NO_RULES))
        if revision != entry.revision:
            if len(self._rule_sets) >= RULE_SETS_MAX:
                self._rule_sets.clear()
            known = RuleSet(self._resources.view(entry).rules or ())
            self._rule_sets[key] = entry.revision, known
        return known

    def _held(self, user: User, namespace: str) -> Iterator[tuple[Grant, RuleSet]]:
        self._take_up()
        for where in ("", namespace) if namespace else ("",):
            for kind, name in _identities(user):
                for grant in self._grants.get((where, kind, name), {}).values():
                    yield grant, self._rules_of(grant.role, where)

    # -- the index ---------------------------------------------------------------------------------------------------

    def _take_up(self) -> None:
        if not self._watches:
            self._load()
            return
        try:
            for watch in self._watches:
                for batch in watch.take():
                    self._apply(batch)
        except Lagging:
            self._load()

    def _load(self) -> None:
        self._grants.clear()
        self._watches = [self._store.watch(f"{kind}/", self._store.revision) for kind in _KINDS]
        for kind in _KINDS:
            for entry in self._store.range(f"{kind}/").entries:
                self._add(entry)

    def _apply(self, batch: Batch) -> None:
        for change in batch.changes:
            if change.previous is not None:
                self._drop(change.previous)
            if not change.deleted:
                self._add(change.entry)

    def _add(self, entry: Entry) -> None:
        view: Binding = self._resources.view(entry)
        namespace = view.metadata.namespace
        kind = _KINDS[entry.key.partition("/")[0]]
        title = f'{kind} "{view.metadata.name}/{namespace}"' if namespace else f'{kind} "{view.metadata.name}"'
        for subject in view.subjects:
            self._grants.setdefault(_holder(namespace, subject), {})[entry.key] = Grant(title, namespace, view.role_ref, subject)

    def _drop(self, entry: Entry) -> None:
        view: Binding = self._resources.view(entry)
        for subject in view.subjects:
            holder = _holder(view.metadata.namespace, subject)
            grants = self._grants.get(holder, {})
            grants.pop(entry.key, None)
            if not grants:
                self._grants.pop(holder, None)


def _holder(namespace: str, subject: Subject) -> Holder:
    name = f"{subject.namespace or namespace}:{subject.name}" if subject.kind == "ServiceAccount" else subject.name
    return namespace, subject.kind, name


def _identities(user: User) -> Iterator[tuple[str, str]]:
    """Yield the subjects that a user is: itself, its groups, and the ServiceAccount whose name it has."""
    yield "User", user.name
    for group in user.groups:
        yield "Group", group
    if user.name.startswith(SERVICE_ACCOUNT_PREFIX):
        yield "ServiceAccount", user.name.removeprefix(SERVICE_ACCOUNT_PREFIX)
