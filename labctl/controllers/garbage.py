"""The garbage collector: what belongs to an object is deleted with it.

Each object names its owners. For the collector an owner is one of these:

    solid        it exists, with the uid that the reference says
    waiting      it exists and is being deleted with the policy Foreground: it goes after its dependents
    absent       it does not exist, or another object has its name; also an owner in another namespace than its dependent
    unknown      its kind is not served now, so it can't be known whether it exists
    unresolvable its kind has namespaces, while its dependent has none

An object lives as long as one of its owners is solid, unknown or unresolvable; then only its references to absent owners are removed.
Otherwise it is deleted:
in the foreground if an owner waits for it and it has dependents itself, else as its own finalizers say. An owner that is to be deleted in
the foreground keeps
the finalizer `foregroundDeletion` until no dependent with `blockOwnerDeletion` is left; one with `orphan` keeps that until no dependent
refers to it.

The rules are those of https://kubernetes.io/docs/concepts/architecture/garbage-collection and of owners-dependents beside it. Keys are
`kind/namespace/name`, of any kind. The view is one consistent picture, so an owner that is not in it is gone, and no second look is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from random import Random
from typing import Any

from labctl.controllers.conditions import plain
from labctl.controllers.indexes import EVENTS, NAMESPACES
from labctl.reconcile.plan import EVERY, NOTHING, Action, Delete, Index, Key, Patch, Plan, Record, Seen, View
from labctl.resources.kind import Kind, OwnerReference
from labctl.resources.registry import Registry

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
AT_ONCE = 500  # the most writes in one plan
UNKNOWN_AGAIN_S = 30.0  # after how long an owner of a kind that is not served is looked for again
CIRCLE_MAX = 10_000  # the most objects that are looked at to find a circle of owners
IGNORED = frozenset({EVENTS, "events.events.k8s.io"})  # they expire by themselves, whoever their owners are


class Owner(Enum):
    """The state of an owner; the module's docstring explains each."""

    SOLID = "solid"
    WAITING = "waiting"
    ABSENT = "absent"
    UNKNOWN = "unknown"
    UNRESOLVABLE = "unresolvable"


def _owners(view: Any) -> Iterable[str]:
    return [owner.uid for owner in view.metadata.owner_references]


class Garbage:
    """The controller that the module's docstring describes."""

    name = "garbage-collector"
    kind = "objects"

    def __init__(self, registry: Registry) -> None:
        """Make a collector. `registry` knows the kinds in ownerReferences at each moment."""
        self._registry = registry
        self.watches: Mapping[str, Callable[[View, Seen], Iterable[Key]]] = {EVERY: self._concerned}
        self.indexes: Mapping[tuple[str, str], Index] = {(EVERY, "owner"): _owners}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        kind, _, name = key.partition("/")
        thing = view.get(kind, name)
        if thing is None:
            return NOTHING
        if thing.metadata.deletion_timestamp:
            if FOREGROUND in thing.metadata.finalizers:
                return self._foreground(view, kind, thing)
            return self._orphan(view, kind, thing) if ORPHAN in thing.metadata.finalizers else NOTHING
        return self._dependent(view, kind, thing)

    def _concerned(self, view: View, seen: Seen) -> Iterable[Key]:
        """Yield the objects that a change concerns: the object itself, its dependents, and its owners if they wait for it."""
        if seen.kind in IGNORED:
            return
        new, old = seen.new, seen.old
        if new is None:
            yield from _keys(view.everywhere("owner", old.metadata.uid))
            yield from self._waiting(view, old.metadata.owner_references, old.metadata.namespace)
            return
        references = new.metadata.owner_references
        changed = old is not None and old.metadata.owner_references != references
        if _leaves(new) or self._is_doubtful(view, seen, changed):
            yield f"{seen.kind}/{seen.key}"
        if _leaves(new) and (old is None or not _leaves(old)):
            yield from _keys(view.everywhere("owner", new.metadata.uid))
        if changed:
            yield from self._waiting(view, old.metadata.owner_references, new.metadata.namespace)
        if new.metadata.deletion_timestamp and references:
            yield from self._waiting(view, references, new.metadata.namespace)

    def _is_doubtful(self, view: View, seen: Seen, changed: bool) -> bool:
        """Tell whether one of its owners may not be solid."""
        metadata = seen.new.metadata
        told = seen.old is not None and not changed
        for owner in metadata.owner_references:
            state = self._state(view, owner, metadata.namespace)
            if state is not Owner.SOLID and not (told and state in (Owner.UNRESOLVABLE, Owner.UNKNOWN)):
                return True
        return False

    # -- three kinds of deletion -----------------------------------------------------------------------------------------------------------

    def _dependent(self, view: View, kind: str, thing: Any) -> Plan:
        """Plan for an object that is not being deleted: its owners decide."""
        metadata = thing.metadata
        states = [(owner, self._state(view, owner, metadata.namespace)) for owner in metadata.owner_references]
        found = {state for _, state in states}
        told = self._invalid_namespaces(view, kind, thing, states)
        again_s = UNKNOWN_AGAIN_S if Owner.UNKNOWN in found else None
        if found <= {Owner.SOLID} or found & {Owner.UNKNOWN, Owner.UNRESOLVABLE}:
            return Plan(told, again_s)
        if Owner.SOLID in found:
            alive = [owner for owner, state in states if state is Owner.SOLID]
            return Plan([*told, _forget(kind, thing, alive, "owners that are gone or go were taken from it")])
        return Plan([*told, self._deletion(view, kind, thing, states)])

    def _deletion(self, view: View, kind: str, thing: Any, states: Sequence[tuple[OwnerReference, Owner]]) -> Action:
        metadata = thing.metadata
        waiting = [owner for owner, state in states if state is Owner.WAITING]
        if waiting:
            why = f"deleted with its owner {waiting[0].kind} {waiting[0].name}"
        else:
            why = f"deleted because its owner is gone: {', '.join(f'{owner.kind} {owner.name}' for owner, _ in states)}"
        if waiting and view.everywhere("owner", metadata.uid):
            policy = "Foreground"
        else:
            policy = "Orphan" if ORPHAN in metadata.finalizers else "Foreground" if FOREGROUND in metadata.finalizers else "Background"
        return Delete(kind, metadata.key, metadata.uid, propagation=policy, version=self._registry.deleted_as(kind), why=why)

    def _foreground(self, view: View, kind: str, owner: Any) -> Plan:
        """Let an owner go when no dependent blocks it any more. Dependents are deleted by plans of their own."""
        uid = owner.metadata.uid
        holding = [thing for _, thing in view.everywhere("owner", uid) if _blocks(thing, uid)]
        if all(_waits_for(view, thing, uid) for thing in holding):
            return Plan([_without_finalizer(kind, owner, FOREGROUND)])
        return NOTHING

    def _orphan(self, view: View, kind: str, owner: Any) -> Plan:
        dependents = view.everywhere("owner", owner.metadata.uid)
        if not dependents:
            return Plan([_without_finalizer(kind, owner, ORPHAN)])
        why = f"orphaned: its owner {owner.metadata.name} goes without it"
        actions: list[Action] = []
        for dependent, thing in dependents[:AT_ONCE]:
            others = [reference for reference in thing.metadata.owner_references if reference.uid != owner.metadata.uid]
            actions.append(_forget(dependent, thing, others, why))
        return Plan(actions)

    # -- owners and dependents ----------------------------------------------------------------------------------------------------------

    def _state(self, view: View, owner: OwnerReference, namespace: str) -> Owner:
        kind = self._registry.of(owner.api_version, owner.kind)
        if kind is None:
            return Owner.UNKNOWN
        if kind.namespaced and not namespace:
            return Owner.UNRESOLVABLE
        there = view.get(kind.stored.resource, _key(kind, owner, namespace))
        if there is None or there.metadata.uid != owner.uid:
            return Owner.ABSENT
        return Owner.WAITING if there.metadata.deletion_timestamp and FOREGROUND in there.metadata.finalizers else Owner.SOLID

    def _waiting(self, view: View, owners: Iterable[OwnerReference], namespace: str) -> Iterator[Key]:
        """Yield the keys of the owners that wait for their dependents."""
        for owner in owners:
            kind = self._registry.of(owner.api_version, owner.kind)
            if kind is None or (kind.namespaced and not namespace):
                continue
            resource, key = kind.stored.resource, _key(kind, owner, namespace)
            there = view.get(resource, key)
            if there is not None and _leaves(there):
                yield f"{resource}/{key}"

    def _invalid_namespaces(self, view: View, kind: str, thing: Any, states: Sequence[tuple[OwnerReference, Owner]]) -> list[Action]:
        """Return an Event for each owner that can't be one because of the namespaces."""
        namespace = thing.metadata.namespace
        wrong = [
            owner
            for owner, state in states
            if state is Owner.UNRESOLVABLE or (state is Owner.ABSENT and self._is_elsewhere(view, owner, namespace))
        ]
        return [Record(kind, thing.metadata.key, "OwnerRefInvalidNamespace", _not_in(namespace, owner), "Warning") for owner in wrong]

    def _is_elsewhere(self, view: View, owner: OwnerReference, namespace: str) -> bool:
        """Tell whether the very object that a reference means is in another namespace."""
        kind = self._registry.of(owner.api_version, owner.kind)
        if kind is None or not kind.namespaced:
            return False
        names = (other.metadata.name for other in view.all(NAMESPACES))
        found = (view.get(kind.stored.resource, f"{name}/{owner.name}") for name in names if name != namespace)
        return any(there is not None and there.metadata.uid == owner.uid for there in found)


def _not_in(namespace: str, owner: OwnerReference) -> str:
    reference = f"{owner.api_version}/{owner.kind}, namespace: {namespace}, name: {owner.name}, uid: {owner.uid}"
    return f'ownerRef [{reference}] does not exist in namespace "{namespace}"'


def _key(kind: Kind, owner: OwnerReference, namespace: str) -> Key:
    return f"{namespace}/{owner.name}" if kind.namespaced else owner.name


def _keys(things: Iterable[tuple[str, Any]]) -> Iterator[Key]:
    return (f"{kind}/{thing.metadata.key}" for kind, thing in things)


def _leaves(thing: Any) -> bool:
    """Tell whether it is being deleted and waits for its dependents."""
    metadata = thing.metadata
    return bool(metadata.deletion_timestamp) and (FOREGROUND in metadata.finalizers or ORPHAN in metadata.finalizers)


def _blocks(thing: Any, uid: str) -> bool:
    return any(owner.uid == uid and owner.block_owner_deletion for owner in thing.metadata.owner_references)


def _waits_for(view: View, thing: Any, uid: str) -> bool:
    """Tell whether a dependent waits, directly or through others, for the object `uid` itself.

    In such a circle no object may block another.
    """
    looked_at, waiting = {thing.metadata.uid}, [thing]
    while waiting and len(looked_at) < CIRCLE_MAX:
        one = waiting.pop()
        if not (one.metadata.deletion_timestamp and FOREGROUND in one.metadata.finalizers):
            continue
        for _, dependent in view.everywhere("owner", one.metadata.uid):
            if not _blocks(dependent, one.metadata.uid):
                continue
            if dependent.metadata.uid == uid:
                return True
            if dependent.metadata.uid not in looked_at:
                looked_at.add(dependent.metadata.uid)
                waiting.append(dependent)
    return False


def _forget(kind: str, thing: Any, owners: Sequence[OwnerReference], why: str) -> Action:
    patch = {"metadata": {"ownerReferences": [plain(owner) for owner in owners] or None}}
    return Patch(kind, thing.metadata.key, patch, revision=thing.metadata.revision, why=why)


def _without_finalizer(kind: str, thing: Any, finalizer: str) -> Action:
    finalizers = [other for other in thing.metadata.finalizers if other != finalizer]
    return Patch(kind, thing.metadata.key, {"metadata": {"finalizers": finalizers or None}}, revision=thing.metadata.revision)
