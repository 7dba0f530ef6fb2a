"""The facade over what can be done to objects; see service.py for the story and the option types.

Reads are synchronous, of memory. Writes wait until they are durable. Everything raises ApiError with a real API server's words.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random
from typing import Any

from labctl.clock import Clock
from labctl.journal import Journal
from labctl.resources.kind import Kind, Object
from labctl.resources.registry import Registry
from labctl.resources.service import SYSTEM, DeleteOptions, Listed, ListOptions, User, WatchEvent, WriteOptions, Written
from labctl.resources.settings import ResourceSettings
from labctl.store.interface import Entry, Store

Body = bytes | Object


class Resources:
    """What can be done to objects. One per master."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        clock: Clock,
        journal: Journal,
        rng: Random | None = None,
        settings: ResourceSettings = ResourceSettings(),  # noqa: B008 - frozen
    ) -> None:
        self.store = store
        self.registry = registry
        self.clock = clock
        self.journal = journal
        self.rng = rng or Random()
        self.settings = settings

    # -- reading ---------------------------------------------------------------------------------------------------

    def get(self, kind: Kind, namespace: str, name: str, subresource: str = "") -> Entry:
        """The object as bytes; 404 if there is none. `scale` answers an autoscaling/v1 Scale."""
        raise NotImplementedError

    def list(self, kind: Kind, namespace: str, options: ListOptions = ListOptions()) -> Listed:  # noqa: B008 - frozen
        """The objects that match, in key order, at one revision. An empty namespace: all of them."""
        raise NotImplementedError

    def watch(
        self,
        kind: Kind,
        namespace: str,
        options: ListOptions = ListOptions(),  # noqa: B008 - frozen
        bookmarks: bool = False,
        send_initial_events: bool | None = None,
    ) -> AsyncIterator[list[WatchEvent]]:
        """Every later change that matches, in order, in the groups in which they became visible. Registered at the call.

        `options.resource_version` is where it starts: empty or "0" starts with an ADDED for what is there. Raises ApiError at the call, or from the iterator
        (410 Expired: list again). Close it with `aclose` when the client is gone.
        """
        raise NotImplementedError

    def view(self, kind: Kind, entry: Entry) -> Any:
        """The kind's typed view of an entry, decoded once."""
        raise NotImplementedError

    # -- writing ---------------------------------------------------------------------------------------------------

    async def create(
        self,
        kind: Kind,
        namespace: str,
        body: Body,
        options: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
        name: str = "",
        subresource: str = "",
    ) -> Written:
        """A new object; with a subresource (binding, eviction) what is posted to the object `name`."""
        raise NotImplementedError

    async def update(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        body: Body,
        options: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
        subresource: str = "",
    ) -> Written:
        """The whole object anew (PUT), at the resourceVersion inside it if it has one."""
        raise NotImplementedError

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: bytes | Any,
        content_type: str,
        options: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
        subresource: str = "",
    ) -> Written:
        """A JSON, merge, strategic or apply patch, by its content type; tried again when another writer was first."""
        raise NotImplementedError

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        options: DeleteOptions = DeleteOptions(),  # noqa: B008 - frozen
        user: User = SYSTEM,
    ) -> Written:
        """Remove it, or mark it as leaving (grace, finalizers). `gone` tells which."""
        raise NotImplementedError

    async def delete_collection(
        self,
        kind: Kind,
        namespace: str,
        options: ListOptions = ListOptions(),  # noqa: B008 - frozen
        delete: DeleteOptions = DeleteOptions(),  # noqa: B008 - frozen
        user: User = SYSTEM,
    ) -> Listed:
        """Delete every object that matches; answers what was deleted."""
        raise NotImplementedError
