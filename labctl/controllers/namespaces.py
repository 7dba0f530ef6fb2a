"""The namespace controller: a deleted namespace is emptied, and goes when nothing is left in it.

Its pods go first (KEP-5080): what they need or are guarded by, such as Secrets and NetworkPolicies, stays until the last one is gone.

What other API servers keep in it (aggregation) is deleted by them; a server that does not answer keeps the namespace.

While content remains, its conditions say what remains. Finalizers of objects are removed by those who set them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

from labctl.controllers.conditions import with_condition
from labctl.controllers.indexes import EVENTS, NAMESPACES, PODS
from labctl.reconcile.plan import EVERY, NOTHING, Action, Delete, Index, Key, Patch, Plan, Replace, Seen, View
from labctl.resources.elsewhere import Elsewhere, Left, Nowhere
from labctl.resources.kinds.core_v1.namespace import Namespace
from labctl.resources.registry import Registry

FINALIZER = "kubernetes"
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
        deletions = [
            Delete(kind, thing.metadata.key, thing.metadata.uid, why=f"deleted with its namespace {key}")
            for kind, thing in [each for each in remaining if each[0] == PODS] or remaining
            if not thing.metadata.deletion_timestamp
        ]
        return Plan([*deletions[:AT_ONCE], *_progress(namespace, remaining, left, view.wall())], again_s=again_s)


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


def _progress(namespace: Namespace, remaining: Sequence[tuple[str, Any]], left: Left, wall_s: float) -> Iterator[Action]:
    """Write the conditions that Kubernetes shows while content remains."""
    conditions: Any = namespace.status.conditions
    for type_, status, reason, message in _conditions(remaining, left):
        conditions = with_condition(conditions, type_, status, reason, message, wall_s)
    told = [(c.type, c.status, c.message) for c in namespace.status.conditions]
    if told != [(c["type"], c["status"], c.get("message", "")) for c in conditions]:
        patch = {"status": {"conditions": conditions}}
        yield Patch(NAMESPACES, namespace.metadata.name, patch, "status", namespace.metadata.revision)


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
        yield "NamespaceDeletionContentFailure", "True", "ContentDeletionFailed", told
    else:
        deleted = "All content successfully deleted, may be waiting on finalization"
        yield "NamespaceDeletionContentFailure", "False", "ContentDeleted", deleted
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
