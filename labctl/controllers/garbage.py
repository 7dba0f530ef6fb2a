"""The garbage collector: what belongs to an object goes with it.

An object whose owners are all gone is deleted (background). An owner with the finalizer `foregroundDeletion` waits until its dependents are gone; one with
`orphan` goes after they have forgotten it. Keys are `kind/namespace/name`, of any kind. Because the view is one consistent picture, an owner that is
not in it is gone: no second look is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any

from labctl.controllers.conditions import plain
from labctl.reconcile.plan import EVERY, NOTHING, Action, Delete, Index, Key, Patch, Plan, Seen, View
from labctl.resources.kind import OwnerReference
from labctl.resources.registry import Registry

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
AT_ONCE = 500  # writes of one plan


def _owners(view: Any) -> Iterable[str]:
    return [owner.uid for owner in view.metadata.owner_references]


class Garbage:
    name = "garbage-collector"
    kind = "objects"

    def __init__(self, registry: Registry) -> None:
        """`registry` says what the kinds in ownerReferences are, now."""
        self._registry = registry
        self.watches: Mapping[str, Callable[[View, Seen], Iterable[Key]]] = {EVERY: self._concerned}
        self.indexes: Mapping[tuple[str, str], Index] = {(EVERY, "owner"): _owners}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        kind, _, name = key.partition("/")
        thing = view.get(kind, name)
        if thing is None:
            return NOTHING
        if thing.metadata.deletion_timestamp and FOREGROUND in thing.metadata.finalizers:
            return self._foreground(view, kind, thing)
        if thing.metadata.deletion_timestamp and ORPHAN in thing.metadata.finalizers:
            return self._orphan(view, kind, thing)
        return self._dependent(view, kind, thing)

    def _concerned(self, view: View, seen: Seen) -> Iterable[Key]:
        """The object itself if it may be garbage or has a finalizer of ours; its dependents if it is gone; its owner if that waits for it."""
        if seen.new is None:
            yield from (f"{kind}/{thing.metadata.key}" for kind, thing in self._dependents(view, seen.old.metadata.uid))
            for owner in seen.old.metadata.owner_references:
                yield from self._waiting(view, owner, seen.old.metadata.namespace)
            return
        metadata = seen.new.metadata
        held = metadata.deletion_timestamp and (FOREGROUND in metadata.finalizers or ORPHAN in metadata.finalizers)
        if held or any(not self._lives(view, owner, metadata.namespace) for owner in metadata.owner_references):
            yield f"{seen.kind}/{seen.key}"
        if seen.old is not None and seen.old.metadata.owner_references != metadata.owner_references:
            for owner in seen.old.metadata.owner_references:
                yield from self._waiting(view, owner, metadata.namespace)

    # -- three ways to go --------------------------------------------------------------------------------------------------------------

    def _dependent(self, view: View, kind: str, thing: Any) -> Plan:
        """Deleted when no owner lives; if some do, it forgets the others."""
        owners = thing.metadata.owner_references
        alive = [owner for owner in owners if self._lives(view, owner, thing.metadata.namespace)]
        if len(alive) == len(owners) or thing.metadata.deletion_timestamp:
            return NOTHING
        if not alive:
            gone = ", ".join(f"{owner.kind} {owner.name}" for owner in owners)
            return Plan([Delete(kind, thing.metadata.key, thing.metadata.uid, why=f"deleted because its owner is gone: {gone}")])
        return Plan([_forget(kind, thing, alive, "owners that are gone were taken from it")])

    def _foreground(self, view: View, kind: str, owner: Any) -> Plan:
        dependents = self._dependents(view, owner.metadata.uid)
        blocking = [thing for _, thing in dependents if _blocks(thing, owner.metadata.uid)]
        if not blocking:
            return Plan([_without_finalizer(kind, owner, FOREGROUND)])
        why = f"deleted with its owner {owner.metadata.name}"
        actions = [
            Delete(dependent, thing.metadata.key, thing.metadata.uid, propagation="Foreground", why=why)
            for dependent, thing in dependents
            if not thing.metadata.deletion_timestamp
        ]
        return Plan(actions[:AT_ONCE])

    def _orphan(self, view: View, kind: str, owner: Any) -> Plan:
        dependents = self._dependents(view, owner.metadata.uid)
        if not dependents:
            return Plan([_without_finalizer(kind, owner, ORPHAN)])
        why = f"orphaned: its owner {owner.metadata.name} goes without it"
        actions: list[Action] = []
        for dependent, thing in dependents[:AT_ONCE]:
            others = [reference for reference in thing.metadata.owner_references if reference.uid != owner.metadata.uid]
            actions.append(_forget(dependent, thing, others, why))
        return Plan(actions)

    # -- who belongs to whom -----------------------------------------------------------------------------------------------------------

    def _dependents(self, view: View, uid: str) -> Sequence[tuple[str, Any]]:
        return view.everywhere("owner", uid)

    def _lives(self, view: View, owner: OwnerReference, namespace: str) -> bool:
        """An owner of a kind that is not served can't be judged, so it lives."""
        found = self._find(owner, namespace)
        if found is None:
            return True
        there = view.get(*found)
        return there is not None and there.metadata.uid == owner.uid

    def _waiting(self, view: View, owner: OwnerReference, namespace: str) -> Iterable[Key]:
        """The owner's key, if it waits for its dependents."""
        found = self._find(owner, namespace)
        there = view.get(*found) if found else None
        if found and there is not None and there.metadata.deletion_timestamp and there.metadata.finalizers:
            yield f"{found[0]}/{found[1]}"

    def _find(self, owner: OwnerReference, namespace: str) -> tuple[str, Key] | None:
        kind = self._registry.of(owner.api_version, owner.kind)
        if kind is None:
            return None
        return kind.stored.resource, f"{namespace}/{owner.name}" if kind.namespaced else owner.name


def _blocks(thing: Any, uid: str) -> bool:
    return any(owner.uid == uid and owner.block_owner_deletion for owner in thing.metadata.owner_references)


def _forget(kind: str, thing: Any, owners: Sequence[OwnerReference], why: str) -> Action:
    patch = {"metadata": {"ownerReferences": [plain(owner) for owner in owners] or None}}
    return Patch(kind, thing.metadata.key, patch, revision=thing.metadata.revision, why=why)


def _without_finalizer(kind: str, thing: Any, finalizer: str) -> Action:
    finalizers = [other for other in thing.metadata.finalizers if other != finalizer]
    return Patch(kind, thing.metadata.key, {"metadata": {"finalizers": finalizers or None}}, revision=thing.metadata.revision)
