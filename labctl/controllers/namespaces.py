"""The namespace controller: a deleted namespace is emptied, and goes when nothing is left in it.

Its pods go first (KEP-5080): what they need or are guarded by, such as Secrets and NetworkPolicies, stays until the last one is gone.

Objects are deleted in the version that Kubernetes prefers, as its controller does: those that can't be converted to it stay, and keep the namespace.

What other API servers keep in it (aggregation) is deleted by them; a server that does not answer keeps the namespace.

While content remains, its conditions say what remains. Finalizers of objects are removed by those who set them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from labctl.controllers.conditions import plain, with_condition
from labctl.controllers.indexes import EVENTS, NAMESPACES, PODS
from labctl.reconcile.plan import EVERY, NOTHING, Action, Delete, Index, Key, Patch, Plan, Refusal, Replace, Seen, View
from labctl.resources.elsewhere import Elsewhere, Left, Nowhere
from labctl.resources.kinds.core_v1.namespace import Namespace
from labctl.resources.kinds.shared import condition, condition_status
from labctl.resources.registry import Registry

FINALIZER = "kubernetes"
FAILURE = "NamespaceDeletionContentFailure"
LOOK_AGAIN_S = 0.5  # while other servers have something
AT_ONCE = 500  # the most deletions in one plan


class Namespaces:
    """The controller that the module's docstring describes."""

    name = "namespace-controller"
    kind = NAMESPACES

    def __init__(self, registry: Registry, elsewhere: Elsewhere = Nowhere()) -> None:  # noqa: B008 - it holds nothing
        """Make a controller. `registry` knows which kinds have objects in namespaces at each moment, `elsewhere` what other servers have there."""
        self._registry = registry
        self._elsewhere = elsewhere
        self.watches: Mapping[str, Callable[[View, Seen], Iterable[Key]]] = {EVERY: _content, NAMESPACES: _leaving}
        self.indexes: Mapping[tuple[str, str], Index] = {}

    def plan(self, view: View, key: Key, now: float, rng: Random) -> Plan:
        namespace: Namespace | None = view.get(NAMESPACES, key)
        if namespace is None or not namespace.metadata.deletion_timestamp or FINALIZER not in namespace.spec.finalizers:
            return NOTHING
        kinds = sorted((kind.resource for kind in self._registry if kind.namespaced), key=lambda kind: (kind == EVENTS, kind))
        remaining = [(kind, thing) for kind in kinds for thing in view.all(kind, key)]
        left = self._elsewhere.left(namespace.metadata.uid)
        again_s = None if left.empty else LOOK_AGAIN_S  # no change that the view sees tells of other servers
        if not remaining and left.empty:
            return Plan([_finalize(view, namespace)])
        if not remaining and not left.asked:
            return Plan(again_s=again_s)
        staying = [each for each in _next(remaining) if not each[1].metadata.deletion_timestamp]
        deletions = [self._deletion(kind, thing, key) for kind, thing in staying[:AT_ONCE]]
        wall_s = view.wall()
        return Plan(
            [*deletions, *_progress(namespace, remaining, left, wall_s, staying=bool(staying))],
            again_s=again_s,
            refused=lambda refusals: list(_refused(namespace, remaining, left, wall_s, refusals)),
        )

    def _deletion(self, kind: str, thing: Any, namespace: str) -> Action:
        version = self._registry.deleted_as(kind)
        return Delete(kind, thing.metadata.key, thing.metadata.uid, version=version, why=f"deleted with its namespace {namespace}")


def _next(remaining: Sequence[tuple[str, Any]]) -> Sequence[tuple[str, Any]]:
    """Return the pods, or all the rest once they are gone."""
    return [each for each in remaining if each[0] == PODS] or remaining


def _leaving(_view: View, seen: Seen) -> Iterable[Key]:
    return (seen.key,) if seen.new is not None and seen.new.metadata.deletion_timestamp else ()


def _content(view: View, seen: Seen) -> Iterable[Key]:
    """Yield the namespace, if it is being deleted and something in it changed."""
    name, slash, _ = seen.key.partition("/")
    if not slash:
        return ()
    namespace = view.get(NAMESPACES, name)
    return (name,) if namespace is not None and namespace.metadata.deletion_timestamp else ()


def _finalize(view: View, namespace: Namespace) -> Action:
    name = namespace.metadata.name
    whole = view.raw(NAMESPACES, name)
    assert whole is not None
    whole["spec"]["finalizers"] = [finalizer for finalizer in namespace.spec.finalizers if finalizer != FINALIZER]
    return Replace(NAMESPACES, whole, "finalize", why="it is empty and goes")


def _progress(namespace: Namespace, remaining: Sequence[tuple[str, Any]], left: Left, wall_s: float, *, staying: bool) -> Iterator[Action]:
    """Write the conditions that Kubernetes shows while content remains. While objects are to be deleted, what was said of failures goes on to be true."""
    told = _with(namespace, remaining, left, wall_s)
    if staying and not left.failed and condition_status(namespace.status.conditions, FAILURE) == "True":
        before = plain(condition(namespace.status.conditions, FAILURE))
        told = [before if each["type"] == FAILURE else each for each in told]
    yield from _told(namespace, told, namespace.metadata.revision)


def _refused(
    namespace: Namespace, remaining: Sequence[tuple[str, Any]], left: Left, wall_s: float, refusals: Sequence[Refusal]
) -> Iterator[Action]:
    """Say why objects could not be deleted: for each kind the first reason."""
    words = {action.kind: str(error.args[0]) for action, error in reversed(refusals) if isinstance(action, Delete)}
    if words:
        failed = msgspec.structs.replace(left, failed=(*left.failed, *sorted(words.values())))
        yield from _told(namespace, _with(namespace, remaining, failed, wall_s))


def _with(namespace: Namespace, remaining: Sequence[tuple[str, Any]], left: Left, wall_s: float) -> list[dict[str, Any]]:
    conditions: Any = namespace.status.conditions
    for said in _conditions(remaining, left):
        conditions = with_condition(conditions, *said, wall_s)
    return list(conditions)


def _told(namespace: Namespace, conditions: Sequence[dict[str, Any]], revision: int = 0) -> Iterator[Action]:
    told = [(c.type, c.status, c.message) for c in namespace.status.conditions]
    if told != [(c["type"], c["status"], c.get("message", "")) for c in conditions]:
        yield Patch(NAMESPACES, namespace.metadata.name, {"status": {"conditions": conditions}}, "status", revision)


def _conditions(remaining: Sequence[tuple[str, Any]], left: Left) -> Iterator[tuple[str, str, str, str]]:
    counts = Counter(kind for kind, _ in remaining) + Counter(left.counts)
    finalizers = Counter(finalizer for _, thing in remaining for finalizer in thing.metadata.finalizers) + Counter(left.finalizers)
    if left.unknown:
        failing = f"Discovery failed for some groups, {len(left.unknown)} failing"
        told = f"{failing}: unable to retrieve the complete list of server APIs: {', '.join(left.unknown)}"
        yield "NamespaceDeletionDiscoveryFailure", "True", "DiscoveryFailed", told
    else:
        yield "NamespaceDeletionDiscoveryFailure", "False", "ResourcesDiscovered", "All resources successfully discovered"
    yield "NamespaceDeletionGroupVersionParsingFailure", "False", "ParsedGroupVersions", "All legacy kube types successfully parsed"
    if left.failed:
        told = f"Failed to delete all resource types, {len(left.failed)} remaining: {', '.join(left.failed)}"
        yield FAILURE, "True", "ContentDeletionFailed", told
    else:
        deleted = "All content successfully deleted, may be waiting on finalization"
        yield FAILURE, "False", "ContentDeleted", deleted
    if not counts:
        yield "NamespaceContentRemaining", "False", "ContentRemoved", "All content successfully removed"
        yield "NamespaceFinalizersRemaining", "False", "ContentHasNoFinalizers", "All content-preserving finalizers finished"
        return
    told = ", ".join(f"{kind}{'' if '.' in kind else '.'} has {count} resource instances" for kind, count in sorted(counts.items()))
    yield "NamespaceContentRemaining", "True", "SomeResourcesRemain", f"Some resources are remaining: {told}"
    if finalizers:
        told = ", ".join(f"{finalizer} in {count} resource instances" for finalizer, count in sorted(finalizers.items()))
        yield (
            "NamespaceFinalizersRemaining",
            "True",
            "SomeFinalizersRemain",
            f"Some content in the namespace has finalizers remaining: {told}",
        )
    else:
        yield "NamespaceFinalizersRemaining", "False", "ContentHasNoFinalizers", "All content-preserving finalizers finished"
