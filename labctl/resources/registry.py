"""The registry holds the kinds that exist now. Each master owns one; kinds may come and go while it runs, and listeners are told of each change.

A resource (`pods`, `leases.coordination.k8s.io`) has one Kind for each of its versions; one of them is stored. Iterating over a Registry gives the stored
ones: what controllers, the view and the garbage collector deal with. What clients see is `served`.
Listeners are called at once, on the loop, in the order in which they began to listen: first the schema, then readers of objects, then the runner.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from labctl.resources import kinds as kinds_package
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Kind
from labctl.resources.kinds.shared import ObjectReference

_VERSION = re.compile(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?\Z")


class KindChange(NamedTuple):
    """The versions of one resource before and after a change; the stored one comes first. `old` is empty for a new kind, `new` for a removed one."""

    resource: str
    old: Sequence[Kind]
    new: Sequence[Kind]


Listener = Callable[[KindChange], None]


class Registry:
    """Finds kinds by resource name, by group, version and kind, and by the parts of a URL. `generation` grows with every change."""

    def __init__(self, kinds: Iterable[Kind] = ()) -> None:
        self.generation = 0
        self._versions: dict[str, tuple[Kind, ...]] = {}  # by resource; the stored one first
        self._by_gvk: dict[tuple[str, str], Kind] = {}
        self._served: dict[tuple[str, str], dict[str, Kind]] = {}  # by group and version, then by plural
        self._by_view: dict[type, Kind] = {}
        self._listeners: list[Listener] = []
        families: dict[Kind, list[Kind]] = {}
        for kind in kinds:
            families.setdefault(kind.stored, [kind.stored])
            if kind.storage is not None:
                families[kind.stored].append(kind)
        for versions in families.values():
            self.add(*versions)

    # -- change ----------------------------------------------------------------------------------------------------------

    def add(self, *versions: Kind) -> None:
        """Adds a new resource with all its versions."""
        assert versions[0].stored.resource not in self._versions, f"{versions[0].resource} is registered twice"
        self.replace(*versions)

    def replace(self, *versions: Kind) -> None:
        """Replaces all versions of a resource. Exactly one of the new ones is stored, and the others name it in `storage`."""
        stored = versions[0].stored
        ordered = (stored, *(kind for kind in versions if kind is not stored))
        assert len(ordered) == len(versions) and all(kind.stored is stored for kind in versions), "one version is stored"
        self._change(stored.resource, ordered)

    def remove(self, resource: str) -> None:
        """Removes a resource with all its versions. Its objects stay in the store, but nobody can read them."""
        self._change(resource, ())

    def listen(self, tell: Listener) -> Callable[[], None]:
        """Calls `tell` after each change. Returns a function that ends this."""
        self._listeners.append(tell)
        return lambda: self._listeners.remove(tell)

    def _change(self, resource: str, new: tuple[Kind, ...]) -> None:
        old = self._versions.pop(resource, ())
        for kind in old:
            self._forget(kind)
        if new:
            self._versions[resource] = new
        for kind in new:
            self._index(kind)
        self.generation += 1
        for tell in tuple(self._listeners):
            tell(KindChange(resource, old, new))

    def _index(self, kind: Kind) -> None:
        self._by_gvk[kind.api_version, kind.kind] = kind
        self._by_view[kind.view] = kind
        if kind.served:
            self._served.setdefault((kind.group, kind.version), {})[kind.plural] = kind

    def _forget(self, kind: Kind) -> None:
        self._by_gvk.pop((kind.api_version, kind.kind), None)
        self._by_view.pop(kind.view, None)
        served = self._served.get((kind.group, kind.version), {})
        served.pop(kind.plural, None)
        if not served:
            self._served.pop((kind.group, kind.version), None)

    # -- what is stored --------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Kind]:
        return (versions[0] for versions in self._versions.values())

    def __getitem__(self, resource: str) -> Kind:
        return self._versions[resource][0]

    def get(self, resource: str) -> Kind | None:
        versions = self._versions.get(resource)
        return versions[0] if versions else None

    def versions(self, resource: str) -> Sequence[Kind]:
        """Returns every version of a resource, the stored one first; nothing if there is no such resource."""
        return self._versions.get(resource, ())

    def preferred(self, resource: str) -> Kind | None:
        """Returns the version of a resource that Kubernetes prefers, of those that are served."""
        served = (kind for kind in self.versions(resource) if kind.served)
        return min(served, key=lambda kind: version_rank(kind.version), default=None)

    def deleted_as(self, resource: str) -> str:
        """Returns the version in which controllers delete objects of a resource: the preferred one; empty where nothing is converted."""
        preferred = self.preferred(resource)
        return preferred.version if preferred is not None and preferred.conversion is not None else ""

    def of(self, api_version: str, kind: str) -> Kind | None:
        """Finds a kind by an object's apiVersion and kind: `("v1", "Pod")`. It may be any version of the resource."""
        return self._by_gvk.get((api_version, kind))

    def reference(self, view: Any) -> ObjectReference:
        """Returns the reference to an object (given as its typed view) for Events and owner references."""
        if isinstance(view, GenericObject):
            kind, api_version = view.kind, view.api_version
        else:
            known = self._by_view[type(view)]
            kind, api_version = known.kind, known.api_version
        metadata = view.metadata
        return ObjectReference(kind, metadata.namespace, metadata.name, metadata.uid, api_version, metadata.resource_version)

    # -- what is served --------------------------------------------------------------------------------------------------

    def in_group(self, group: str, version: str, plural: str) -> Kind | None:
        """Finds a kind by the parts of a URL path."""
        served = self._served.get((group, version))
        return served.get(plural) if served else None

    def served(self, group: str, version: str) -> list[Kind]:
        """Returns the kinds that a version of a group serves, sorted by plural."""
        kinds = self._served.get((group, version), {})
        return [kinds[plural] for plural in sorted(kinds)]

    def all_served(self) -> list[Kind]:
        """Returns every version of every kind that clients may use."""
        return [kind for group, version in self.group_versions() for kind in self.served(group, version)]

    def group_versions(self) -> list[tuple[str, str]]:
        """Returns every (group, version) that is served: the core group first, and in each group the version first that Kubernetes prefers."""
        return sorted(self._served, key=lambda gv: (gv[0], version_rank(gv[1])))


def version_rank(version: str) -> tuple[int, int, int, str]:
    """Returns a sort key for the order that Kubernetes prefers: v2, v1, v2beta1, v1beta2, v1beta1, v1alpha1, then other names by the alphabet."""
    match = _VERSION.match(version)
    if match is None:
        return 3, 0, 0, version
    stage = {None: 0, "beta": 1, "alpha": 2}[match[2]]
    return stage, -int(match[1]), -int(match[3] or 0), version


def builtin_registry() -> Registry:
    """Returns a registry with the `KIND` of each file under kinds/GROUP_VERSION/."""
    names = sorted(module.name for module in pkgutil.walk_packages(kinds_package.__path__, kinds_package.__name__ + "."))
    modules = [importlib.import_module(name) for name in names]
    return Registry(module.KIND for module in modules if hasattr(module, "KIND"))
