"""Ownership: which objects a controller counts as its own.

Every workload controller claims in the same way (Kubernetes' ControllerRefManager). An object that names it as its controller and still
matches its selector is
its own; one that no longer matches is released; one that matches and has no controller is adopted. An owner that is being deleted claims
and releases nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from labctl.reconcile.plan import Action, Index, Key, Patch, Seen, View
from labctl.resources.selectors import Selector


class OwnerKind(NamedTuple):
    """The kind of an owner: the resource's name in plans, and the fields of an owner reference."""

    resource: str
    api_version: str
    kind: str

    def reference(self, owner: Any) -> dict[str, Any]:
        """Return the owner reference that makes `owner` (its typed view) the controller of an object."""
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "name": owner.metadata.name,
            "uid": owner.metadata.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    def named(self, owner: Any) -> str:
        """Return the owner's name for sentences: `replicaset web-5d4f`."""
        return f"{self.kind.lower()} {owner.metadata.name}"


class Claim(NamedTuple):
    """The result of claiming. `mine` are the owner's objects, in key order; `actions` are the adoptions and releases that are due."""

    mine: list[Any]
    actions: list[Action]


def claim(view: View, of: OwnerKind, owner: Any, selector: Selector, resource: str, adoptable: Callable[[Any], bool]) -> Claim:
    """Go through the objects of `resource` that `owner` has, or could have.

    `adoptable` says which objects without a controller may be adopted.
    """
    leaving = owner.metadata.deletion_timestamp is not None
    mine: list[Any] = []
    actions: list[Action] = []
    for found in view.by(resource, "controller", owner.metadata.uid):
        if selector.matches(found.metadata.labels):
            mine.append(found)
        elif found.metadata.deletion_timestamp is None and not leaving:
            actions.append(_release(of, owner, resource, found))
    if leaving:
        return Claim(mine, actions)
    for found in view.by(resource, "unowned", filed_under(owner.metadata.namespace, selector)):
        if selector.matches(found.metadata.labels) and found.metadata.deletion_timestamp is None and adoptable(found):
            mine.append(found)
            actions.append(_adopt(of, owner, resource, found))
    return Claim(mine, actions)


def _adopt(of: OwnerKind, owner: Any, resource: str, found: Any) -> Action:
    owners = [*map(plain_reference, found.metadata.owner_references), of.reference(owner)]
    why = f"adopted by {of.named(owner)}: its labels match and it had no controller"
    return Patch(resource, found.metadata.key, {"metadata": {"ownerReferences": owners}}, revision=found.metadata.revision, why=why)


def _release(of: OwnerKind, owner: Any, resource: str, found: Any) -> Action:
    owners = [plain_reference(reference) for reference in found.metadata.owner_references if reference.uid != owner.metadata.uid]
    why = f"released by {of.named(owner)}: its labels no longer match"
    return Patch(resource, found.metadata.key, {"metadata": {"ownerReferences": owners or None}}, revision=found.metadata.revision, why=why)


def plain_reference(reference: Any) -> dict[str, Any]:
    """Return an owner reference as JSON, without absent fields."""
    return {key: value for key, value in msgspec.to_builtins(reference).items() if value is not None}


# -- indexes ---------------------------------------------------------------------------------------------------------------------------


def _controller_uid(view: Any) -> Iterable[str]:
    owner = view.metadata.controller
    return (owner.uid,) if owner else ()


def _labels_without_controller(view: Any) -> Iterable[str]:
    """Index an object without a controller by each of its labels, and by its namespace alone for selectors that name no single pair."""
    metadata = view.metadata
    if metadata.controller:
        return ()
    return [f"{metadata.namespace}/", *(f"{metadata.namespace}/{key}={value}" for key, value in metadata.labels.items())]


def _selector_pair(view: Any) -> Iterable[str]:
    return (filed_under(view.metadata.namespace, view.pod_selector),)


def owned(resource: str) -> dict[tuple[str, str], Index]:
    """Return the two indexes that `claim` reads for a resource."""
    return {(resource, "controller"): _controller_uid, (resource, "unowned"): _labels_without_controller}


def owners(resource: str) -> dict[tuple[str, str], Index]:
    """Return the index of owners of a kind by one pair of their selectors, so that an object without a controller finds who could adopt it."""
    return {(resource, "pod-selector"): _selector_pair}


def filed_under(namespace: str, selector: Selector) -> str:
    """Return the value under which an index has a selector: its first exact pair, or the namespace if it has none."""
    for requirement in selector.requirements:
        if requirement.operator == "in" and len(requirement.values) == 1:
            return f"{namespace}/{requirement.key}={next(iter(requirement.values))}"
    return f"{namespace}/"


def concerned(view: View, of: OwnerKind, seen: Seen) -> Iterator[Key]:
    """Keys of the owners of a kind that an object's change concerns: those that have it or had it, or that could adopt it."""
    for each in (seen.old, seen.new):
        if each is None:
            continue
        owner = each.metadata.controller
        if owner is None:
            yield from could_adopt(view, of.resource, each.metadata)
        elif (owner.api_version, owner.kind) == (of.api_version, of.kind):
            yield f"{each.metadata.namespace}/{owner.name}"


def could_adopt(view: View, resource: str, metadata: Any) -> Iterator[Key]:
    """Yield the keys of the owners of a kind whose selector matches the labels of an object without a controller."""
    if not view.has(resource):  # each change of a pod asks for five kinds
        return
    namespace, labels = metadata.namespace, metadata.labels
    for value in (f"{namespace}/", *(f"{namespace}/{key}={text}" for key, text in labels.items())):
        for owner in view.by(resource, "pod-selector", value):
            if owner.pod_selector.matches(labels):
                yield owner.metadata.key
