"""Resources is the facade through which all others read and write objects; see service.py for the story and the types of options.

Reads are synchronous and answered from memory. Writes wait until they are durable. All methods raise ApiError with a real API server's messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec

from labctl.clock import Clock
from labctl.errors import ApiError
from labctl.journal import Journal
from labctl.resources.admission import Admission, Attributes, ask, mutate
from labctl.resources.kind import Kind, Object
from labctl.resources.large import offload_if_large
from labctl.resources.registry import Registry
from labctl.resources.reports import note_report
from labctl.resources.schema.defaults import apply_defaults
from labctl.resources.schema.definitions import Schema, builtin_schema
from labctl.resources.schema.validate import decode_patched
from labctl.resources.service import SYSTEM, DeleteOptions, ListOptions, ListResult, User, WriteOptions, WriteResult
from labctl.resources.settings import ResourceSettings
from labctl.resources.verbs import delete, read, subresources, versions, write
from labctl.resources.verbs.context import Context
from labctl.resources.verbs.patch import applier, is_apply, patcher, scale_applier
from labctl.resources.verbs.warnings import is_person
from labctl.resources.verbs.watch import EventPool, ObjectWatch
from labctl.store.interface import Entry, Store

Body = bytes | Object
_DID = {"created": "create", "deleted": "delete", "asked to leave": "delete"}  # the journal's words; all else changes an object


class Resources:
    """Reads and writes objects. Each master has one."""

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
        """Sets the steps that writes pass from now on. They can't be passed to the constructor, because most of them read objects through it."""
        self._ctx.admission = admission

    async def admit(self, attributes: Attributes, check: Callable[[], None] = lambda: None) -> None:
        """Asks the steps about something that is answered and not stored, such as a TokenRequest, or a connection. They may change `attributes.new`.

        `check` is called when it is what it is going to be, before the steps that only judge. Raises ApiError."""
        await mutate(self._ctx.admission.mutating(attributes.kind, attributes.verb), attributes)
        check()
        await ask(self._ctx.admission.validating(attributes.kind, attributes.verb), attributes)

    def complete(self, kind: Kind, obj: Object) -> None:
        """Fills in, in place, what every object of the kind has; a mutating step needs it that shows the object to somebody."""
        apply_defaults(self.schema, kind, obj)
        kind.defaults(obj)

    def body_kind(self, kind: Kind, subresource: str) -> Kind:
        """Returns the kind of the body that a subresource takes: its own, or the object's. Raises 404 if there is no such subresource."""
        return subresources.body_kind(kind, subresource) if subresource else kind

    def tidied(self, kind: Kind, obj: Object) -> None:
        """Checks types and drops unknown fields, in place, of what somebody's patch made of an object. ApiError if it is no such object any more."""
        decode_patched(self.schema, kind, obj, b"", "Ignore")

    # -- reading ---------------------------------------------------------------------------------------------------

    def get(self, kind: Kind, namespace: str, name: str, subresource: str = "", resource_version: str = "") -> Entry:
        """Returns the object's entry. Raises 404 if there is none. For the subresource `scale` it returns an autoscaling/v1 Scale.

        It is never older than `resource_version`; raises 504 if there is no such revision yet, 400 if it is none."""
        entry = read.get(self._ctx, kind, namespace, name, resource_version)
        return subresources.scale_of(kind, entry) if subresource == "scale" else entry

    def refuse_future(self, resource_version: str) -> None:
        """Raises 504 if the store has not reached a revision, 400 if it is none."""
        read.refuse_future(self._ctx, read.revision_of(resource_version))

    def list(self, kind: Kind, namespace: str, options: ListOptions = ListOptions()) -> ListResult:  # noqa: B008 - frozen
        """Returns the matching objects, in key order, at one revision. An empty namespace means all namespaces."""
        return read.list_(self._ctx, kind, namespace, options)

    async def list_converted(self, kind: Kind, namespace: str, options: ListOptions = ListOptions()) -> ListResult:  # noqa: B008 - frozen
        """Returns the objects that match in this version of the kind, converted to it."""
        return await read.list_converted(self._ctx, kind, namespace, options)

    def watch(
        self,
        kind: Kind,
        namespace: str,
        options: ListOptions = ListOptions(),  # noqa: B008 - frozen
        bookmarks: bool = False,
        send_initial_events: bool | None = None,
    ) -> ObjectWatch:
        """Delivers every later change that matches, in order, in the groups in which they became visible. The watch begins at the call.

        It starts at `options.resource_version`; if that is empty or "0", it starts with an ADDED event for each object. Raises ApiError at the call, or from
        the iterator (410 Expired: list again). Call `aclose` when the client has disconnected.
        """
        return ObjectWatch(self._ctx, self._pool, kind, namespace, options, bookmarks, send_initial_events)

    async def converted(self, kind: Kind, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Converts entries to this version of the kind: `get`, `list` and writes return them in the stored version."""
        return await versions.convert_entries(kind, entries)

    def view(self, entry: Entry) -> Any:
        """Returns the typed view of an entry, which is decoded once."""
        return self._ctx.view(entry)

    def seen(self, entry: Entry) -> Any:
        """Returns the view of an entry for whoever shows it: of one that can't be decoded, its name alone."""
        return self._ctx.seen(entry)

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
        """Creates an object, or with a subresource (binding, eviction) carries out what is posted to the object `name`."""
        assert kind.persisted, f"{kind.resource} are answered, not created"
        if subresource:
            return await subresources.post(self._ctx, kind, namespace, name, subresource, body, options)
        arrived = self.clock.now()
        written = await write.create(self._ctx, kind, namespace, body, options)
        return self._journaled(written, options.user, "created", options.dry_run, arrived)

    async def update(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        body: Body,
        options: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
        subresource: str = "",
    ) -> WriteResult:
        """Replaces the whole object (PUT). If the body has a resourceVersion, that must be the current one."""
        if kind.create_on_update and not subresource and self.store.get(kind.key(namespace, name)) is None:
            written = await write.create_by_put(self._ctx, kind, namespace, name, body, options)
            return self._journaled(written, options.user, "created", options.dry_run)
        change = await write.replacement(self._ctx, self.body_kind(kind, subresource), body, options)
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
        """Applies a JSON, merge, strategic or apply patch, according to its content type. If another writer was first, it is applied again."""
        if is_apply(content_type):
            return await self._apply(kind, namespace, name, patch, options, subresource)
        change = patcher(self._ctx, self.body_kind(kind, subresource), patch, content_type, options)
        return await self._rewrite(kind, namespace, name, change, options, subresource, write.size_of(patch))

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        options: DeleteOptions = DeleteOptions(),  # noqa: B008 - frozen
        user: User = SYSTEM,
    ) -> WriteResult:
        """Removes the object, or marks it as terminating (grace period, finalizers). The result's `gone` says which."""
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
        """Deletes every matching object and returns the deleted ones."""
        deleted = await delete.delete_collection(self._ctx, kind, namespace, options, delete_options, user)
        for entry in deleted.entries:
            self._journaled(WriteResult(entry), user, "deleted", delete_options.dry_run)
        return deleted

    async def _apply(self, kind: Kind, namespace: str, name: str, patch: Body, options: WriteOptions, subresource: str) -> WriteResult:
        """Carries out a server-side apply: it creates the object if there is none, and merges if another client creates it meanwhile."""
        size = write.size_of(patch)
        if subresource == "scale":
            return await self._apply_scale(kind, namespace, name, patch, options, size)
        change = applier(self._ctx, self.body_kind(kind, subresource), patch, options, subresource)
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

    async def _apply_scale(self, kind: Kind, namespace: str, name: str, patch: Body, options: WriteOptions, size: int) -> WriteResult:
        """Applies a Scale: its manager owns the number of replicas in the object itself, through this subresource."""
        change = scale_applier(self._ctx, kind, name, patch, options)
        applied = msgspec.structs.replace(options, applied=True)
        written = await write.rewrite(self._ctx, kind, namespace, name, change, applied, "scale", size)
        self._journaled(written, options.user, "scaled", options.dry_run)
        return msgspec.structs.replace(written, entry=subresources.scale_of(kind, written.entry))

    async def _rewrite(
        self, kind: Kind, namespace: str, name: str, change: write.Change, options: WriteOptions, subresource: str, size: int
    ) -> WriteResult:
        if subresource != "scale":
            arrived = self.clock.now()
            written = await write.rewrite(self._ctx, kind, namespace, name, change, options, subresource, size)
            return self._journaled(written, options.user, "changed", options.dry_run, arrived)

        def scaled(rc: Object) -> tuple[Object, Sequence[str]]:
            scale, warnings = change(subresources.scale_object(kind, rc))
            return subresources.rescaled(kind, rc, scale), warnings

        written = await write.rewrite(self._ctx, kind, namespace, name, scaled, options, subresource, size)
        self._journaled(written, options.user, "scaled", options.dry_run)
        return msgspec.structs.replace(written, entry=subresources.scale_of(kind, written.entry))

    def _journaled(self, written: WriteResult, user: User, did: str, dry_run: bool, arrived: float = 0.0) -> WriteResult:
        """Notes a person's write in the journal, so that `labctl why` can name it as a cause, and what a node reports in an Event.

        The runner notes what controllers write.
        """
        if is_person(user) and not dry_run:
            self.journal.note(
                "resources", written.entry.key, f"{did} by {user.name}", rev=written.entry.revision, did=_DID.get(did, "patch")
            )
        elif arrived and written.entry.key.startswith("events/") and user.name.startswith("system:node:") and not dry_run:
            note_report(self.journal, self.view(written.entry), self.clock.now() - arrived)
        return written
