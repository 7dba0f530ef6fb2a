"""A Resources of one's own on the memory store, a clock that stands still, and seeds."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest

from labctl.errors import ApiError
from labctl.journal import MemoryJournal
from labctl.resources.bootstrap import BootstrapSettings, ensure_bootstrap
from labctl.resources.client import Client
from labctl.resources.encoding import client_bytes
from labctl.resources.kind import Kind
from labctl.resources.registry import builtin_registry
from labctl.resources.resources import Resources
from labctl.resources.service import DeleteOptions, ListOptions, User, WatchEvent, WriteOptions, WriteResult
from labctl.resources.settings import ResourceSettings
from labctl.store.log import LogStore
from labctl.store.memory import memory_store

PERSON = User("labctl-admin", ("system:masters",))
MERGE = "application/merge-patch+json"


class StillClock:
    """Stands at a moment until it is moved."""

    def __init__(self) -> None:
        self.at = 1_767_366_245.0  # 2026-01-02T15:04:05Z

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.at


class Lab:
    """Short names for what the tests do all the time; everything goes through the facade."""

    def __init__(self, settings: ResourceSettings = ResourceSettings(), store: LogStore | None = None) -> None:
        self.clock = StillClock()
        self.journal = MemoryJournal(self.clock)
        self.store = store or memory_store()
        self.resources = Resources(self.store, builtin_registry(), self.clock, self.journal, Random(7), settings)
        self.client = Client(self.resources)

    def kind(self, resource: str) -> Kind:
        """Return the kind of a resource; also that of a version that is stored as another one, as events.k8s.io is."""
        registry = self.resources.registry
        return registry.get(resource) or next(kind for kind in registry.all_served() if kind.resource == resource)

    async def create(self, resource: str, obj: dict[str, Any], user: User = PERSON, **options: Any) -> WriteResult:
        kind = self.kind(resource)
        return await self.resources.create(kind, "default" if kind.namespaced else "", obj, WriteOptions(user=user, **options))

    async def update(self, resource: str, obj: dict[str, Any], subresource: str = "", **options: Any) -> WriteResult:
        kind = self.kind(resource)
        namespace = "default" if kind.namespaced else ""
        return await self.resources.update(kind, namespace, obj["metadata"]["name"], obj, WriteOptions(user=PERSON, **options), subresource)

    async def patch(self, resource: str, name: str, patch: Any, subresource: str = "", type_: str = MERGE, **options: Any) -> WriteResult:
        kind = self.kind(resource)
        namespace = "default" if kind.namespaced else ""
        return await self.resources.patch(kind, namespace, name, patch, type_, WriteOptions(user=PERSON, **options), subresource)

    async def delete(self, resource: str, name: str, **options: Any) -> WriteResult:
        kind = self.kind(resource)
        return await self.resources.delete(kind, "default" if kind.namespaced else "", name, DeleteOptions(**options), PERSON)

    def get(self, resource: str, name: str) -> dict[str, Any] | None:
        kind = self.kind(resource)
        return self.client.raw(resource, f"default/{name}" if kind.namespaced else name)

    def names(self, resource: str, **options: Any) -> list[str]:
        kind = self.kind(resource)
        listed = self.resources.list(kind, "default" if kind.namespaced else "", ListOptions(**options))
        return [self.resources.view(entry).metadata.name for entry in listed.entries]

    def watch(self, resource: str, bookmarks: bool = False, initial: bool | None = None, **options: Any) -> Any:
        kind = self.kind(resource)
        return self.resources.watch(kind, "default" if kind.namespaced else "", ListOptions(**options), bookmarks, initial)

    async def refused(self, resource: str, obj: dict[str, Any]) -> ApiError:
        with pytest.raises(ApiError) as caught:
            await self.create(resource, obj)
        return caught.value

    def claims(self) -> list[str]:
        return [entry.key.removeprefix("claims/") for entry in self.store.range("claims/").entries]


def told(events: list[WatchEvent]) -> list[tuple[str, str, int]]:
    """(type, name, revision inside the object) of each event."""
    metadata = [json.loads(client_bytes(event.entry))["metadata"] for event in events]
    return [(event.type, m.get("name", ""), int(m["resourceVersion"])) for event, m in zip(events, metadata, strict=True)]


def pod(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "nginx"}], **spec}}


def controller(name: str = "web", **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "nginx"}]}}
    return {"metadata": {"name": name}, "spec": {"template": template, **spec}}


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


def config(name: str = "web", labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels or {}}, "data": data}


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    made = Lab()
    await ensure_bootstrap(made.client, BootstrapSettings(address="10.245.1.1"))
    yield made
    await made.store.close()
