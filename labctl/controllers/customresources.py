"""Custom kinds: their names are accepted or refused, they come and go with their definitions, and a deleted definition takes its objects
with it.

CustomResourceDefinition ─► CustomResources (controller): conditions NamesAccepted, Established; at the end it deletes the objects, then the
definition
                         └► CustomKinds (observer): puts an established definition's Kinds into the Registry, and takes them out again
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

from labctl.clock import rfc3339
from labctl.reconcile.plan import EVERY, NOTHING, Action, Delete, Index, Key, Patch, Plan, Refusal, Seen, View
from labctl.resources.custom.make import kinds_of
from labctl.resources.kinds.apiextensions_v1.customresourcedefinition import (
    CLEANUP,
    CustomResourceDefinition,
    Names,
    approval,
    is_protected,
)
from labctl.resources.kinds.shared import condition
from labctl.resources.registry import Registry
from labctl.resources.webhooks import NoWebhooks, Webhooks

log = logging.getLogger(__name__)

DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
AT_ONCE = 500  # the most deletions in one plan


class CustomKinds:
    """Keeps the Registry's custom kinds as the established definitions say."""

    name = "custom-kinds"
    follows = (DEFINITIONS,)

    def __init__(self, registry: Registry, webhooks: Webhooks = NoWebhooks()) -> None:  # noqa: B008 - it holds nothing
        self._registry = registry
        self._webhooks = webhooks
        self._made: dict[str, tuple[Any, int]] = {}  # by resource: what the kinds were made of, and since which revision
        self.indexes: Mapping[tuple[str, str], Index] = {}

    def seen(self, view: View, change: Seen) -> None:
        new: CustomResourceDefinition | None = change.new
        resource = change.key
        if new is None:
            self._drop(resource)
        elif new.has("Established"):
            self._make(new, resource)

    def _make(self, definition: CustomResourceDefinition, resource: str) -> None:
        made_of = (definition.spec, definition.status.accepted_names, definition.metadata.deletion_timestamp is None)
        before = self._made.get(resource)
        if before is not None and before[0] == made_of:
            return
        if before is None and self._registry.get(resource) is not None:
            return  # a built-in kind has the name, so the definition is not accepted
        same_schema = before is not None and before[0][0] == definition.spec
        since = before[1] if before is not None and same_schema else definition.metadata.revision
        self._made[resource] = (made_of, since)
        self._registry.replace(*kinds_of(definition, since, self._webhooks))

    def _drop(self, resource: str) -> None:
        if self._made.pop(resource, None) is not None:
            self._registry.remove(resource)


class CustomResources:
    """The controller of definitions."""

    name = "customresourcedefinition-controller"
    kind = DEFINITIONS

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.watches = {DEFINITIONS: _all_of_the_group, EVERY: _leaving}
        self.indexes: Mapping[tuple[str, str], Index] = {}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        definition: CustomResourceDefinition | None = view.get(DEFINITIONS, key)
        if definition is None:
            return NOTHING
        if definition.metadata.deletion_timestamp is not None:
            return _ending(view, definition)
        return Plan(list(self._accepted(view, definition)))

    def _accepted(self, view: View, definition: CustomResourceDefinition) -> Iterator[Action]:
        taken = self._taken(view, definition)
        names, conflict = _accept(definition, taken)
        established = definition.has("Established") or conflict is None
        accepted = ("True", "NoConflicts", "no conflicts found") if conflict is None else ("False", *conflict)
        ready = ("True", "InitialNamesAccepted", "the initial names have been accepted")
        waiting = ("False", "NotAccepted", "not all names are accepted")
        stamp = rfc3339(view.wall())
        conditions = [
            _condition(definition, "NamesAccepted", accepted, stamp),
            _condition(definition, "Established", ready if established else waiting, stamp),
        ]
        if is_protected(definition.spec.group):
            conditions.append(
                _condition(definition, "KubernetesAPIApprovalPolicyConformant", approval(definition.metadata.annotations), stamp)
            )
        types = {each["type"] for each in conditions}
        shown = shown_conditions(definition)
        status = {"conditions": [*conditions, *(each for each in shown if each["type"] not in types)], "acceptedNames": names}
        now = {"conditions": shown, "acceptedNames": _plain(definition.status.accepted_names)}
        if status != now:
            yield Patch(DEFINITIONS, definition.metadata.key, {"status": status}, "status", why=f"its names: {accepted[2]}")

    def _taken(self, view: View, definition: CustomResourceDefinition) -> dict[str, set[str]]:
        """Return the names that other kinds of the group have."""
        mine, group = definition.resource, definition.spec.group
        taken: dict[str, set[str]] = {"names": set(), "kinds": set()}
        for kind in self._registry:
            if kind.group == group and kind.resource != mine:
                taken["names"] |= {kind.plural, kind.singular, *kind.short_names}
                taken["kinds"] |= {kind.kind, f"{kind.kind}List"}
        for other in view.all(DEFINITIONS):
            if other.spec.group == group and other.resource != mine:
                names = other.status.accepted_names
                taken["names"] |= {names.plural, names.singular, *names.short_names}
                taken["kinds"] |= {names.kind, names.list_kind}
        return taken


def _accept(definition: CustomResourceDefinition, taken: Mapping[str, set[str]]) -> tuple[dict[str, Any], tuple[str, str] | None]:
    """Return the names that are free, and the last reason why one is not."""
    wanted, had = definition.spec.names, definition.status.accepted_names
    conflict: tuple[str, str] | None = None
    short = [name for name in wanted.short_names if name in taken["names"]]
    result: dict[str, Any] = {}
    for field, name, before, pool, reason in (
        ("plural", wanted.plural, had.plural, "names", "PluralConflict"),
        ("singular", wanted.singular, had.singular, "names", "SingularConflict"),
        ("shortNames", wanted.short_names, had.short_names, "", "ShortNamesConflict"),
        ("kind", wanted.kind, had.kind, "kinds", "KindConflict"),
        ("listKind", wanted.list_kind, had.list_kind, "kinds", "ListKindConflict"),
    ):
        in_use = short if field == "shortNames" else [name] if name in taken[pool] else []
        if in_use:
            conflict = (reason, ", ".join(f'"{each}" is already in use' for each in in_use))
        result[field] = before if in_use else name
    result |= {"shortNames": list(result["shortNames"]), "categories": list(wanted.categories)}
    return {field: value for field, value in result.items() if value or field in ("plural", "kind")}, conflict


def _plain(names: Names) -> dict[str, Any]:
    said = {
        "plural": names.plural,
        "singular": names.singular,
        "kind": names.kind,
        "listKind": names.list_kind,
        "shortNames": list(names.short_names),
        "categories": list(names.categories),
    }
    return {field: value for field, value in said.items() if value or field in ("plural", "kind")}


def _condition(definition: CustomResourceDefinition, type_: str, said: tuple[str, str, str], stamp: str) -> dict[str, Any]:
    before = condition(definition.status.conditions, type_)
    since = before.last_transition_time if before and before.status == said[0] else stamp
    return {"type": type_, "status": said[0], "reason": said[1], "message": said[2], "lastTransitionTime": since}


def shown_conditions(definition: CustomResourceDefinition) -> list[dict[str, Any]]:
    """Return the conditions as they are written."""
    fields = ("type", "status", "reason", "message")
    return [
        {
            **{name: getattr(each, name) for name in fields},
            "lastTransitionTime": each.last_transition_time,
            **({"observedGeneration": each.observed_generation} if each.observed_generation else {}),
        }
        for each in definition.status.conditions
    ]


def _ending(view: View, definition: CustomResourceDefinition) -> Plan:
    """Delete the objects, then let the definition be deleted."""
    if CLEANUP not in definition.metadata.finalizers:
        return NOTHING
    there: Sequence[Any] = list(view.all(definition.resource)) if definition.has("Established") else []
    if not there:
        kept = [finalizer for finalizer in definition.metadata.finalizers if finalizer != CLEANUP]
        patch = {"metadata": {"finalizers": kept or None}}
        return Plan([Patch(DEFINITIONS, definition.metadata.key, patch, why="it has no objects left")])
    staying = [each for each in there if each.metadata.deletion_timestamp is None][:AT_ONCE]
    why = "its definition is deleted"
    actions: list[Action] = [Delete(definition.resource, each.metadata.key, each.metadata.uid, why=why) for each in staying]
    stamp = rfc3339(view.wall())
    if not definition.has("Terminating"):
        actions.append(_terminating(definition, "InstanceDeletionInProgress", "CustomResource deletion is in progress", stamp))
    return Plan(actions, refused=lambda refusals: list(_undeleted(definition, refusals, stamp)))


def _undeleted(definition: CustomResourceDefinition, refusals: Sequence[Refusal], stamp: str) -> Iterator[Action]:
    """Say why objects could not be deleted. An error without a reason is one of conversion: the object can't even be read."""
    for error in [error for action, error in refusals if isinstance(action, Delete)][:1]:
        what = "could not issue all deletes" if error.reason else "could not list instances"
        yield _terminating(definition, "InstanceDeletionFailed", f"{what}: {error.args[0]}", stamp)


def _terminating(definition: CustomResourceDefinition, reason: str, message: str, stamp: str) -> Action:
    others = [each for each in shown_conditions(definition) if each["type"] != "Terminating"]
    conditions = [*others, _condition(definition, "Terminating", ("True", reason, message), stamp)]
    return Patch(DEFINITIONS, definition.metadata.key, {"status": {"conditions": conditions}}, "status")


def _all_of_the_group(view: View, seen: Seen) -> Iterable[Key]:
    """Yield all definitions of the group: one that changes or goes may free names that another one waits for."""
    changed = seen.new or seen.old
    others = [
        each.metadata.key for each in view.all(DEFINITIONS) if each.spec.group == changed.spec.group and each.metadata.key != seen.key
    ]
    return [seen.key, *(others if seen.new is None or not seen.new.has("NamesAccepted") else ())]


def _leaving(view: View, seen: Seen) -> Iterable[Key]:
    """Yield the definition of a deleted object, which may be the last one that a deleted definition waits for."""
    if seen.new is not None or seen.kind == DEFINITIONS:
        return ()
    definition = view.get(DEFINITIONS, seen.kind)
    return (seen.kind,) if definition is not None and definition.metadata.deletion_timestamp is not None else ()
