"""What a rule allows, and whether rules cover other rules. Pure functions, as Kubernetes' RBAC authorizer defines them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Protocol

import msgspec

from labctl.resources.kinds.rbac_v1.rules import PolicyRule
from labctl.resources.service import User

ALL = "*"
ATOMS_MAX = 20_000  # single permissions that a rule is taken apart into


class Request(msgspec.Struct, frozen=True):
    """What somebody wants to do: a verb on a resource, or on a `path` that names no resource."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_selector: str = ""
    """Of a list or watch. RBAC's rules know no selectors; a node may list the pods that it selects as its own."""


class Permissions(Protocol):
    """Who may do what: RBAC alone (holders.py), or the API's whole authorizer."""

    def why_allowed(self, user: User, request: Request) -> str:
        """Return the reason why the user may do this, or "" if nothing allows it."""


class RuleSet:
    """The rules of one role, made ready for many questions. Rules without names and wildcards, which is most of them, are found by one look into a dict."""

    __slots__ = ("_others", "_plain", "rules")

    def __init__(self, rules: Sequence[PolicyRule]) -> None:
        self.rules = rules
        self._plain: dict[tuple[str, str], set[str]] = {}  # group and resource (with its subresource) -> verbs
        self._others: list[PolicyRule] = []
        for rule in rules:
            if _is_plain(rule):
                for group, resource in product(rule.api_groups, rule.resources):
                    self._plain.setdefault((group, resource), set()).update(rule.verbs)
            else:
                self._others.append(rule)

    def allows(self, request: Request) -> bool:
        if not request.path:
            resource = f"{request.resource}/{request.subresource}" if request.subresource else request.resource
            if request.verb in self._plain.get((request.group, resource), ()):
                return True
        return any(allows(rule, request) for rule in self._others)


def _is_plain(rule: PolicyRule) -> bool:
    if rule.resource_names or rule.non_resource_urls or len(rule.api_groups) * len(rule.resources) > ATOMS_MAX:
        return False
    return not any(ALL in text for texts in (rule.verbs, rule.api_groups, rule.resources) for text in texts)


def allows(rule: PolicyRule, request: Request) -> bool:
    if request.verb not in rule.verbs and ALL not in rule.verbs:
        return False
    if request.path:
        return any(_path_matches(pattern, request.path) for pattern in rule.non_resource_urls)
    return (
        (request.group in rule.api_groups or ALL in rule.api_groups)
        and _resource_matches(rule.resources, request.resource, request.subresource)
        and (not rule.resource_names or request.name in rule.resource_names)
    )


def _resource_matches(said: Sequence[str], resource: str, subresource: str) -> bool:
    whole = f"{resource}/{subresource}" if subresource else resource
    return whole in said or ALL in said or (bool(subresource) and f"{ALL}/{subresource}" in said)


def _path_matches(pattern: str, path: str) -> bool:
    return pattern in (ALL, path) or (pattern.endswith(ALL) and path.startswith(pattern.rstrip(ALL)))


def uncovered(held: Sequence[PolicyRule], wanted: Iterable[PolicyRule]) -> list[PolicyRule]:
    """Return the single permissions of `wanted` that `held` does not include. A rule with more than ATOMS_MAX of them counts as not covered."""
    missing: list[PolicyRule] = []
    for rule in wanted:
        if any(_covers(owned, rule) for owned in held):
            continue
        if _size(rule) > ATOMS_MAX:
            missing.append(rule)
        else:
            missing += (atom for atom in _atoms(rule) if not any(_covers(owned, atom) for owned in held))
    return missing


def _size(rule: PolicyRule) -> int:
    names = max(1, len(rule.resource_names))
    return len(rule.verbs) * (len(rule.api_groups) * len(rule.resources) * names + len(rule.non_resource_urls))


def _atoms(rule: PolicyRule) -> Iterator[PolicyRule]:
    for group, resource, verb, name in product(rule.api_groups, rule.resources, rule.verbs, rule.resource_names or ("",)):
        yield PolicyRule((verb,), (group,), (resource,), (name,) if name else ())
    for path, verb in product(rule.non_resource_urls, rule.verbs):
        yield PolicyRule((verb,), non_resource_urls=(path,))


def _covers(owned: PolicyRule, wanted: PolicyRule) -> bool:
    """Tell whether one rule allows everything that another one allows."""
    if not _includes(owned.verbs, wanted.verbs):
        return False
    if not _includes(owned.api_groups, wanted.api_groups) or not all(_has_resource(owned.resources, each) for each in wanted.resources):
        return False
    if (
        wanted.resources
        and owned.resource_names
        and not (wanted.resource_names and set(wanted.resource_names) <= set(owned.resource_names))
    ):
        return False
    return all(any(_path_matches(pattern, path) for pattern in owned.non_resource_urls) for path in wanted.non_resource_urls)


def _includes(owned: Sequence[str], wanted: Sequence[str]) -> bool:
    return ALL in owned or set(wanted) <= set(owned)


def _has_resource(owned: Sequence[str], wanted: str) -> bool:
    return _resource_matches(owned, *wanted.partition("/")[::2])


def compact(atoms: Iterable[PolicyRule]) -> list[PolicyRule]:
    """Single permissions about the same thing as one rule with several verbs."""
    verbs: dict[PolicyRule, list[str]] = {}
    for atom in atoms:
        verbs.setdefault(msgspec.structs.replace(atom, verbs=()), []).extend(atom.verbs)
    return [msgspec.structs.replace(rule, verbs=tuple(dict.fromkeys(said))) for rule, said in verbs.items()]


def shown(rule: PolicyRule) -> str:
    """Return a rule as Kubernetes' refusals print it: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`."""
    parts = {
        "NonResourceURLs": rule.non_resource_urls,
        "APIGroups": rule.api_groups,
        "Resources": rule.resources,
        "ResourceNames": rule.resource_names,
        "Verbs": rule.verbs,
    }
    said = (f"{name}:[{' '.join(_quoted(value) for value in values)}]" for name, values in parts.items() if values)
    return "{" + ", ".join(said) + "}"


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
