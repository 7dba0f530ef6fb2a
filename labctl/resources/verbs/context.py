"""A Context holds what every verb needs: the store, the kinds and their types, the clock and the random numbers. Each Resources has one.

It also has two things that all writes share: a lock for each key (writers of one object take turns, so that none fails because there are many), and
the typed view of an entry, which is decoded once and cached in the entry.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec

from labctl.clock import Clock, rfc3339
from labctl.errors import Unavailable
from labctl.resources import encoding, failures
from labctl.resources.admission import Admission
from labctl.resources.kind import Kind, Meta
from labctl.resources.registry import KindChange, Registry
from labctl.resources.schema.definitions import Schema
from labctl.resources.settings import ResourceSettings
from labctl.resources.verbs.known import KnownSpecs
from labctl.store.interface import Compare, Entry, Op, Store


@dataclass
class Context:
    store: Store
    registry: Registry
    schema: Schema
    clock: Clock
    rng: Random
    settings: ResourceSettings
    admission: Admission = field(default_factory=Admission)
    known: KnownSpecs = field(default_factory=KnownSpecs)
    _decoders: dict[str, Callable[[bytes], Any]] = field(default_factory=dict)
    _turns: dict[str, list[asyncio.Future[None]]] = field(default_factory=dict)

    def view(self, entry: Entry) -> Any:
        """Returns the typed view of an entry, which is decoded once."""
        if entry.memo is None:
            resource = entry.key[: entry.key.index("/")]
            decoder = self._decoders.get(resource)
            if decoder is None:
                decoder = self._decoders[resource] = self.registry[resource].view.decoder()
            entry.memo = encoding.viewed(entry, decoder)
        return entry.memo

    def seen(self, entry: Entry) -> Any:
        """Returns the view of an entry for whoever shows or selects it. Of one that can't be decoded that is its name alone: a list has the others, too."""
        try:
            return self.view(entry)
        except msgspec.ValidationError:
            resource, _, key = entry.key.partition("/")
            namespace, _, name = key.rpartition("/")
            return self.registry[resource].view(metadata=Meta(name=name, namespace=namespace, resource_version=str(entry.revision)))

    def views(self, resource: str, namespace: str) -> Iterator[Any]:
        """Returns the typed views of a namespace's objects; see kind.Surroundings."""
        kind = self.registry.get(resource)
        return iter(()) if kind is None else (self.view(entry) for entry in self.store.range(kind.prefix(namespace)).entries)

    def now(self) -> str:
        return rfc3339(self.clock.wall())

    def kinds_changed(self, change: KindChange) -> None:
        """Takes note that a kind was added, changed or removed. Cached views of the old kind are dropped."""
        self._decoders.pop(change.resource, None)
        if change.old and (not change.new or change.old[0].view is not change.new[0].view):
            for entry in self.store.range(change.resource + "/").entries:
                entry.memo = None

    def existing(self, kind: Kind, namespace: str, name: str) -> Entry:
        """Returns the object's entry. Raises 404 if there is none."""
        entry = self.store.get(kind.key(namespace, name))
        if entry is None:
            raise failures.not_found(kind, name)
        return entry

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Lock a key. Its writers take turns in the order in which they came."""
        waiting = self._turns.get(key)
        if waiting is None:
            self._turns[key] = []
        else:
            mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting.append(mine)
            try:
                await mine
            except asyncio.CancelledError:
                if not mine.cancelled():  # it was our turn already: the next one gets it
                    self._next_turn(key)
                elif mine in waiting:
                    waiting.remove(mine)
                raise
        try:
            yield
        finally:
            self._next_turn(key)

    def _next_turn(self, key: str) -> None:
        waiting = self._turns[key]
        while waiting:
            turn = waiting.pop(0)
            if not turn.done():
                turn.set_result(None)
                return
        del self._turns[key]

    async def commit(self, kind: Kind, ops: Sequence[Op], compares: Sequence[Compare]) -> int:
        """Commits to the store. If the disk refuses, it raises an API server's error; Conflict is passed on to the caller."""
        try:
            return await self.store.commit(ops, compares, lazy=kind.lazy)
        except Unavailable as error:
            raise failures.unavailable(error) from error
