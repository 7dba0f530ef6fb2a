"""Which kinds there are. Each master owns one Registry, so that a CustomResourceDefinition can add to it at run time and tests can have their own."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator

from labctl.resources import kinds as kinds_package
from labctl.resources.kind import Kind


class Registry:
    """Kinds by resource name (`pods`, `leases.coordination.k8s.io`) and by group, version and kind."""

    def __init__(self, kinds: Iterable[Kind] = ()) -> None:
        self._by_resource: dict[str, Kind] = {}
        self._by_gvk: dict[tuple[str, str], Kind] = {}
        for kind in kinds:
            self.add(kind)

    def add(self, kind: Kind) -> None:
        assert kind.resource not in self._by_resource, f"{kind.resource} is registered twice"
        self._by_resource[kind.resource] = kind
        self._by_gvk[kind.api_version, kind.kind] = kind

    def remove(self, resource: str) -> None:
        kind = self._by_resource.pop(resource)
        del self._by_gvk[kind.api_version, kind.kind]

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._by_resource.values())

    def __getitem__(self, resource: str) -> Kind:
        return self._by_resource[resource]

    def get(self, resource: str) -> Kind | None:
        return self._by_resource.get(resource)

    def of(self, api_version: str, kind: str) -> Kind | None:
        """By what an object says of itself: `("v1", "Pod")`."""
        return self._by_gvk.get((api_version, kind))

    def in_group(self, group: str, version: str, plural: str) -> Kind | None:
        """By the parts of a URL path."""
        kind = self._by_resource.get(f"{plural}.{group}" if group else plural)
        return kind if kind is not None and kind.version == version else None

    def group_versions(self) -> list[tuple[str, str]]:
        """Every (group, version) that is served, core first."""
        return sorted({(kind.group, kind.version) for kind in self})


def builtin_registry() -> Registry:
    """One Kind per file under kinds/GROUP_VERSION/ that has a `KIND`."""
    names = sorted(module.name for module in pkgutil.walk_packages(kinds_package.__path__, kinds_package.__name__ + "."))
    modules = [importlib.import_module(name) for name in names]
    return Registry(module.KIND for module in modules if hasattr(module, "KIND"))
