"""Controllers, the scheduler and the machines room write through this in-process client. It takes dicts and returns typed views; no HTTP is involved.

Kinds are named by `Kind.resource` ("pods"), objects by `namespace/name` or `name`. The client acts as the user SYSTEM, so it gets no warnings.
"""

from __future__ import annotations

from typing import Any

from labctl.resources import encoding
from labctl.resources.kind import Kind, Object
from labctl.resources.resources import Resources
from labctl.resources.service import SYSTEM, DeleteOptions, ListOptions, User, WriteOptions
from labctl.resources.verbs.patch import MERGE


class Client:
    def __init__(self, resources: Resources, user: User = SYSTEM) -> None:
        self.resources = resources
        self.user = user
        self._options = WriteOptions(user=user, field_validation="Strict")

    def get(self, resource: str, key: str) -> Any:
        """Returns the typed view of an object, or None."""
        entry = self.resources.store.get(f"{resource}/{key}")
        return None if entry is None else self.resources.view(entry)

    def raw(self, resource: str, key: str) -> Object | None:
        """Returns the whole object as a fresh dict, or None."""
        entry = self.resources.store.get(f"{resource}/{key}")
        return None if entry is None else encoding.decoded(entry)

    def list(self, resource: str, namespace: str = "", labels: str = "") -> list[Any]:
        """Returns typed views in key order. `labels` is a label selector."""
        listed = self.resources.list(self._kind(resource), namespace, ListOptions(label_selector=labels))
        return [self.resources.view(entry) for entry in listed.entries]

    async def create(self, resource: str, obj: Object) -> Any:
        """Creates an object in the namespace that its metadata names."""
        namespace = obj.get("metadata", {}).get("namespace", "")
        written = await self.resources.create(self._kind(resource), namespace, obj, self._options)
        return self.resources.view(written.entry)

    async def patch(self, resource: str, key: str, patch: Object, subresource: str = "", revision: int = 0) -> Any:
        """Applies a JSON merge patch. With `revision` it fails if the object has another revision by now."""
        if revision:
            patch = {**patch, "metadata": {**patch.get("metadata", {}), "resourceVersion": str(revision)}}
        namespace, name = _split(key)
        written = await self.resources.patch(self._kind(resource), namespace, name, patch, MERGE, self._options, subresource)
        return self.resources.view(written.entry)

    async def replace(self, resource: str, obj: Object, subresource: str = "") -> Any:
        """Replaces the whole object. If it has a resourceVersion, that must be the current one."""
        metadata = obj["metadata"]
        namespace = metadata.get("namespace", "")
        written = await self.resources.update(self._kind(resource), namespace, metadata["name"], obj, self._options, subresource)
        return self.resources.view(written.entry)

    async def delete(
        self, resource: str, key: str, uid: str = "", grace_s: int | None = None, propagation: str | None = None, version: str = ""
    ) -> Any:
        """Deletes an object and returns its last view. Raises ApiError 404 if it does not exist, 409 if its uid is another one.

        `version` is the version of the request; empty: the stored one.
        """
        namespace, name = _split(key)
        options = DeleteOptions(grace_period_seconds=grace_s, propagation_policy=propagation, precondition_uid=uid)
        written = await self.resources.delete(self._kind(resource, version), namespace, name, options, self.user)
        return self.resources.view(written.entry)

    async def bind(self, key: str, node: str, uid: str = "") -> Any:
        """Binds a pod to a node, and returns the pod's view as this write left it. Only the scheduler does this."""
        namespace, name = _split(key)
        binding: Object = {"metadata": {"name": name}, "target": {"kind": "Node", "name": node}}
        if uid:
            binding["metadata"]["uid"] = uid
        written = await self.resources.create(self._kind("pods"), namespace, binding, self._options, name, "binding")
        assert written.changed is not None
        return self.resources.view(written.changed)

    async def evict(self, key: str, uid: str = "") -> None:
        """Deletes a pod if its disruption budget allows that. Raises ApiError 429 if not."""
        namespace, name = _split(key)
        eviction: Object = {"metadata": {"name": name}, "deleteOptions": {"preconditions": {"uid": uid}} if uid else {}}
        await self.resources.create(self._kind("pods"), namespace, eviction, self._options, name, "eviction")

    def _kind(self, resource: str, version: str = "") -> Kind:
        registry = self.resources.registry
        return next((kind for kind in registry.versions(resource) if kind.version == version), registry[resource])


def _split(key: str) -> tuple[str, str]:
    namespace, _, name = key.rpartition("/")
    return namespace, name
