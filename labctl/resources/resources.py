"""The facade over what can be done to objects; see service.py for the story and the option types.

Reads are synchronous, of memory. Writes wait until they are durable. Everything raises ApiError with a real API server's words.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from labctl.clock import Clock
from labctl.errors import ApiError
from labctl.journal import Journal
from labctl.resources.admission import Admission, Attributes, ask
from labctl.resources.kind import Kind, Object
from labctl.resources.large import offload_if_large
from labctl.resources.registry import Registry
from labctl.resources.schema.definitions import Schema, builtin_schema
from labctl.resources.service import SYSTEM, DeleteOptions, ListOptions, ListResult, User, WriteOptions, WriteResult
from labctl.resources.settings import ResourceSettings
from labctl.resources.verbs import delete, read, subresources, versions, write
from labctl.resources.verbs.context import Context
from labctl.resources.verbs.patch import applier, is_apply, patcher
from labctl.resources.verbs.warnings import is_person
from labctl.resources.verbs.watch import EventPool, ObjectWatch
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
        schema: Schema | None = None,
    ) -> None:
        self.store = store
        self.registry = registry
        self.clock = clock
        self.journal = journal
        self.schema = schema or builtin_schema(registry)
        self.rng = rng or Random()
        self.settings = settings
        self._ctx = Context(store, registry, self.schema, clock, self.rng, settings)
        registry.listen(self._ctx.kinds_changed)
        self._pool = EventPool()

    def use_admission(self, admission: Admission) -> None:
        """From now on writes pass these steps. They come after construction because most of them read objects themselves."""
        self._ctx.admission = admission

    async def admit(self, attributes: Attributes) -> None:
        """Asks the steps about something that is answered and not stored, such as a TokenRequest. Raises ApiError."""
        for steps in (self._ctx.admission.mutating, self._ctx.admission.validating):
            await ask(steps(attributes.kind, attributes.verb), attributes)

    # -- reading ---------------------------------------------------------------------------------------------------

    def get(self, kind: Kind, namespace: str, name: str, subresource: str = "") -> Entry:
        """The object as bytes; 404 if there is none. `scale` answers an autoscaling/v1 Scale."""
        entry = self._ctx.existing(kind, namespace, name)
        return subresources.scale_of(kind, entry) if subresource == "scale" else entry

    def list(self, kind: Kind, namespace: str, options: ListOptions = ListOptions()) -> ListResult:  # noqa: B008 - frozen
        """The objects that match, in key order, at one revision. An empty namespace: all of them."""
        return read.list_(self._ctx, kind, namespace, options)

    def watch(
        self,
        kind: Kind,
        namespace: str,
        options: ListOptions = ListOptions(),  # noqa: B008 - frozen
        bookmarks: bool = False,
        send_initial_events: bool | None = None,
    ) -> ObjectWatch:
        """Every later change that matches, in order, in the groups in which they became visible. Registered at the call.

        `options.resource_version` is where it starts: empty or "0" starts with an ADDED for what is there. Raises ApiError at the call, or from the iterator
        (410 Expired: list again). Close it with `aclose` when the client is gone.
        """
        return ObjectWatch(self._ctx, self._pool, kind, namespace, options, bookmarks, send_initial_events)

    async def converted(self, kind: Kind, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Entries that `get`, `list` or a write answered are as they are stored; this answers them as that version of the kind shows them."""
        return await versions.convert_entries(kind, entries)

    def view(self, entry: Entry) -> Any:
        """The typed view of an entry, decoded once."""
        return self._ctx.view(entry)

    # -- writing ---------------------------------------------------------------------------------------------------

    async def create(
        self,
        kind: Kind,
        namespace: str,
        body: Body,
        options: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
        name: str = "",
        subresource: str = "",
    ) -> WriteResult:
        """A new object; with a subresource (binding, eviction) what is posted to the object `name`."""
        assert kind.persisted, f"{kind.resource} are answered, not created"
        if subresource:
            return await subresources.post(self._ctx, kind, namespace, name, subresource, body, options)
        written = await write.create(self._ctx, kind, namespace, body, options)
        return self._journaled(written, options.user, "created", options.dry_run)

    async def update(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        body: Body,
        options: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
        subresource: str = "",
    ) -> WriteResult:
        """The whole object anew (PUT), at the resourceVersion inside it if it has one."""
        if kind.create_on_update and not subresource and self.store.get(kind.key(namespace, name)) is None:
            written = await write.create_by_put(self._ctx, kind, namespace, name, body, options)
            return self._journaled(written, options.user, "created", options.dry_run)
        change = await write.replacement(self._ctx, self._body_kind(kind, subresource), body, options)
        return await self._rewrite(kind, namespace, name, change, options, subresource, write.size_of(body))

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: bytes | Any,
        content_type: str,
        options: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
        subresource: str = "",
    ) -> WriteResult:
        """A JSON, merge, strategic or apply patch, by its content type; tried again when another writer was first."""
        if is_apply(content_type):
            return await self._apply(kind, namespace, name, patch, options, subresource)
        change = patcher(self._ctx, self._body_kind(kind, subresource), patch, content_type, options)
        return await self._rewrite(kind, namespace, name, change, options, subresource, write.size_of(patch))

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        options: DeleteOptions = DeleteOptions(),  # noqa: B008 - frozen
        user: User = SYSTEM,
    ) -> WriteResult:
        """Remove it, or mark it as leaving (grace, finalizers). `gone` tells which."""
        written = await delete.delete(self._ctx, kind, namespace, name, options, user)
        return self._journaled(written, user, "deleted" if written.gone else "asked to leave", options.dry_run)

    async def delete_collection(
        self,
        kind: Kind,
        namespace: str,
        options: ListOptions = ListOptions(),  # noqa: B008 - frozen
        delete_options: DeleteOptions = DeleteOptions(),  # noqa: B008 - frozen
        user: User = SYSTEM,
    ) -> ListResult:
        """Delete every object that matches; answers what was deleted."""
        deleted = await delete.delete_collection(self._ctx, kind, namespace, options, delete_options, user)
        for entry in deleted.entries:
            self._journaled(WriteResult(entry), user, "deleted", delete_options.dry_run)
        return deleted

    async def _apply(self, kind: Kind, namespace: str, name: str, patch: Body, options: WriteOptions, subresource: str) -> WriteResult:
        """Server-side apply makes what is not there; whoever else makes it meanwhile is merged with."""
        size = write.size_of(patch)
        change = applier(self._ctx, self._body_kind(kind, subresource), patch, options, subresource)
        applied = msgspec.structs.replace(options, applied=True)
        if subresource or self.store.get(kind.key(namespace, name)) is not None:
            return await self._rewrite(kind, namespace, name, change, applied, subresource, size)
        obj, warnings = await offload_if_large(size, change, None)
        obj.setdefault("metadata", {}).setdefault("name", name)
        try:
            written = await write.create_decoded(self._ctx, kind, namespace, obj, applied, warnings, size)
            return self._journaled(written, options.user, "created", options.dry_run)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        return await self._rewrite(kind, namespace, name, change, applied, subresource, size)

    def _body_kind(self, kind: Kind, subresource: str) -> Kind:
        return subresources.body_kind(kind, subresource) if subresource else kind

    async def _rewrite(
        self, kind: Kind, namespace: str, name: str, change: write.Change, options: WriteOptions, subresource: str, size: int
    ) -> WriteResult:
        if subresource != "scale":
            written = await write.rewrite(self._ctx, kind, namespace, name, change, options, subresource, size)
            return self._journaled(written, options.user, "changed", options.dry_run)

        def scaled(rc: Object) -> tuple[Object, Sequence[str]]:
            scale, warnings = change(subresources.scale_object(kind, rc))
            return subresources.rescaled(kind, rc, scale), warnings

        written = await write.rewrite(self._ctx, kind, namespace, name, scaled, options, subresource, size)
        self._journaled(written, options.user, "scaled", options.dry_run)
        return msgspec.structs.replace(written, entry=subresources.scale_of(kind, written.entry))

    def _journaled(self, written: WriteResult, user: User, did: str, dry_run: bool) -> WriteResult:
        """What people did is a cause that `labctl why` can name; what controllers did, the runner tells, with its reason."""
        if is_person(user) and not dry_run:
            self.journal.note("resources", written.entry.key, f"{did} by {user.name}", rev=written.entry.revision)
        return written
