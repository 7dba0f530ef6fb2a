"""A picture: a view made of plain objects, on which plan functions are tested without a store, a loop or an API.

    picture = Picture([Replication()])
    picture.put({"kind": "ReplicationController", ...})
    plan = picture.plan("default/web")

Objects get from it what the server would add (uid, revision, creation time), and nothing else: no defaults, no validation. Time does not
move by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

import msgspec

from labctl.clock import rfc3339
from labctl.reconcile.following import indexes_of
from labctl.reconcile.plan import EVERY, Controller, Follower, Key, Observer, Plan, Remembers, Seen
from labctl.reconcile.view import LiveView
from labctl.resources.encoding import viewed
from labctl.resources.kind import Kind, Object
from labctl.resources.registry import Registry, builtin_registry
from labctl.store.interface import Batch, Change, Entry

EPOCH_S = 1_790_000_000.0


class StillClock:
    """A clock that only a test moves."""

    def __init__(self, now: float = 1000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return EPOCH_S + self.time


class Picture:
    """A view of objects. `dirty` collects, by the controller's name, the keys that changes concerned."""

    def __init__(self, controllers: Sequence[Follower] = (), registry: Registry | None = None) -> None:
        self.clock = StillClock()
        self.controllers = tuple(controllers)
        self.registry = registry or builtin_registry()
        self.view = LiveView(self._decode, self.clock, indexes_of(controllers))
        self.dirty: dict[str, list[Key]] = {controller.name: [] for controller in controllers}
        self.rng = Random(1)

    def put(self, obj: Object) -> Any:
        """Create or replace an object and return its typed view. If it comes without a status, it keeps the one it has."""
        kind = self._kind(obj)
        metadata = dict(obj["metadata"])
        if kind.namespaced:
            metadata.setdefault("namespace", "default")
        key = self._key(metadata)
        before = self.view.raw(kind.resource, key)
        revision = self.view.revision + 1
        known = before["metadata"] if before else {"uid": f"uid-{revision}", "creationTimestamp": rfc3339(self.clock.wall())}
        metadata = {"uid": known["uid"], "creationTimestamp": known["creationTimestamp"], **metadata, "resourceVersion": str(revision)}
        whole = {"apiVersion": kind.api_version, **obj, "metadata": metadata}
        if before and "status" in before:
            whole.setdefault("status", before["status"])
        entry = Entry(kind.key(metadata.get("namespace", ""), metadata["name"]), msgspec.json.encode(whole), revision, revision)
        self._seen(self.view.apply(Batch(revision, (Change(entry, None),))))
        return self.view.get(kind.resource, key)

    def drop(self, resource: str, key: Key) -> None:
        """Delete an object at once."""
        revision = self.view.revision + 1
        entry = Entry(f"{resource}/{key}", b'{"metadata":{}}', revision, 0)
        self._seen(self.view.apply(Batch(revision, (Change(entry, None, deleted=True),))))

    def plan(self, key: Key, name: str = "") -> Plan:
        """Return what a controller (by name, else the first) plans for a key now."""
        controller = next(c for c in self.controllers if isinstance(c, Controller) and (not name or c.name == name))
        plan = controller.plan(self.view, key, self.clock.now(), self.rng)
        if isinstance(controller, Remembers):
            controller.decided(self.view, key, plan, self.clock.now())
        return plan

    def _seen(self, changes: Iterable[Seen]) -> None:
        for seen in changes:
            for controller in self.controllers:
                if isinstance(controller, Observer) and seen.kind in controller.follows:
                    controller.seen(self.view, seen)
            for controller in (one for one in self.controllers if isinstance(one, Controller)):
                keys = controller.watches.get(seen.kind) or controller.watches.get(EVERY)
                if keys is not None:
                    self.dirty[controller.name] += keys(self.view, seen)

    def _kind(self, obj: Object) -> Kind:
        return next(kind for kind in self.registry if kind.kind == obj["kind"])

    def _decode(self, entry: Entry) -> Any:
        kind = self.registry.get(entry.key.partition("/")[0])
        if kind is None:
            return None
        if entry.memo is None:
            entry.memo = viewed(entry, kind.view.decoder())
        return entry.memo

    @staticmethod
    def _key(metadata: Object) -> Key:
        return f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else metadata["name"]
