"""A watch delivers every later change of the objects that a request selects, once, in order, and in the groups in which they became visible.

The selector decides the type of an event: an object that begins to match is ADDED for this watcher. One that no longer matches is DELETED, with its last
matching state and the revision of the change.
Events are made once for all watchers of the same kind of change (EventPool), so that their encoding can be shared.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import msgspec

from labctl.errors import ApiError, Compacted, Lagging, StoreError
from labctl.resources import failures, fields
from labctl.resources.kind import FieldError, Kind
from labctl.resources.service import ListOptions, WatchEvent
from labctl.resources.verbs.context import Context
from labctl.resources.verbs.match import is_late, matcher
from labctl.resources.verbs.read import list_options_invalid, refuse_future, revision_of
from labctl.resources.verbs.versions import convert_entries
from labctl.store.interface import Batch, Change, Entry

_POOL = 2_048
_INITIAL_BYTES = 128 << 10  # of the objects that there are, as many are handed over at once


class EventPool:
    """Keeps the last events, so that a second watcher that needs the same event gets the first watcher's."""

    def __init__(self) -> None:
        self._events: OrderedDict[tuple[str, int, str], WatchEvent] = OrderedDict()

    def event(self, type_: str, entry: Entry) -> WatchEvent:
        key = (entry.key, entry.revision, type_)
        found = self._events.get(key)
        if found is None:
            found = self._events[key] = WatchEvent(type_, entry)
            if len(self._events) > _POOL:
                self._events.popitem(last=False)
        return found

    def left(self, change: Change) -> WatchEvent:
        """Returns the DELETED event for an object that no longer matches: its last matching state, at the change's revision."""
        assert change.previous is not None
        revision = change.entry.revision
        key = (change.entry.key, revision, "LEFT")
        found = self._events.get(key)
        if found is None:
            previous = change.previous
            found = self._events[key] = WatchEvent("DELETED", Entry(change.key, previous.value, revision, previous.created))
        return found


class ObjectWatch:
    """The watch of one request. Iterate over it, and call `aclose` when the client has disconnected."""

    def __init__(
        self, ctx: Context, pool: EventPool, kind: Kind, namespace: str, options: ListOptions, bookmarks: bool, initial: bool | None
    ):
        _check(options, initial)
        self._ctx, self._pool, self._kind = ctx, pool, kind
        self._bookmark_due_s = asyncio.get_running_loop().time() + ctx.settings.bookmark_s if bookmarks else None  # on the loop's clock
        self._match = matcher(ctx, kind, options.label_selector, options.field_selector)
        self._late = is_late(ctx, kind, options.label_selector, options.field_selector)
        if self._late:
            self._pool = EventPool()  # its events are of this version only
        self._pending: Iterator[list[WatchEvent]] = iter(())
        prefix = kind.prefix(namespace if kind.namespaced else "")
        asked = revision_of(options.resource_version)
        refuse_future(ctx, asked)
        if initial or (initial is None and asked == 0):
            self._pending = self._initial(ctx.store.range(prefix).entries, mark=bool(initial) and bookmarks)
            asked = 0
        self._seen = asked or ctx.store.revision
        try:
            self._watcher = ctx.store.watch(prefix, self._seen)
        except Compacted as gone:
            raise failures.too_old(gone.asked, gone.oldest) from None

    def __aiter__(self) -> ObjectWatch:
        return self

    async def __anext__(self) -> list[WatchEvent]:
        for events in self._pending:
            shown = await self._converted(events)
            if self._late and self._match is not None:
                shown = [event for event in shown if event.type == "BOOKMARK" or self._match(event.entry)]
            if shown:
                return shown
        try:
            while True:
                events = await self._next_events()
                if events:
                    return events if self._late else await self._converted(events)
        except Lagging as error:
            raise failures.expired(f"too old resource version: {self._seen} ({error})") from None
        except StoreError as error:
            raise ApiError(503, "ServiceUnavailable", str(error)) from None

    async def _converted(self, events: list[WatchEvent]) -> list[WatchEvent]:
        """Converts the events to this version of the kind. That is done again for each watcher of the version."""
        if self._kind.conversion is None:
            return events
        entries = await convert_entries(self._kind, [event.entry for event in events if event.type != "BOOKMARK"])
        others = iter(entries)
        return [event if event.type == "BOOKMARK" else _with(event, next(others)) for event in events]

    async def _selected(self, batches: Sequence[Batch]) -> list[WatchEvent]:
        """Returns the events of objects that can be selected only once they are converted, before and after each change."""
        changes = [change for batch in batches for change in batch.changes]
        states = [entry for change in changes for entry in (change.previous, change.entry) if entry is not None]
        converted = iter(await convert_entries(self._kind, states))
        in_version = (
            msgspec.structs.replace(change, previous=next(converted) if change.previous is not None else None, entry=next(converted))
            for change in changes
        )
        return [event for change in in_version if (event := self._event(change)) is not None]

    def listen(self, listener: Callable[[], bool]) -> None:
        """Names a function that is called when events may wait, and returns whether it has taken them (see `Watch.listen`). It calls `take`."""
        if self._kind.conversion is None:
            self._watcher.listen(listener)

    def take(self) -> list[WatchEvent]:
        """Returns the events that wait to be read, and never blocks. Only a listener calls it."""
        batches = self._watcher.take()
        if batches:
            self._seen = batches[-1].revision
        return self._events(batches)

    async def aclose(self) -> None:
        """Ends the watch in the store: one that is left open would slow down every later write."""
        await self._watcher.aclose()

    async def _next_events(self) -> list[WatchEvent]:
        """Waits for the next events, or returns a bookmark if one is due and no matching change came.

        With bookmarks a watch of few objects in a busy store can be resumed at a recent revision.
        """
        batches: list[Batch] = []
        if self._bookmark_due_s is None:
            batches.append(await anext(self._watcher))
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._bookmark_due_s):
                    batches.append(await anext(self._watcher))
        batches += self._watcher.take()
        # If nothing waits to be read, this watch has seen everything up to the store's revision.
        self._seen = batches[-1].revision if batches else max(self._seen, self._ctx.store.revision)
        events = await self._selected(batches) if self._late else self._events(batches)
        return events or self._due_bookmark()

    def _events(self, batches: Sequence[Batch]) -> list[WatchEvent]:
        return [event for batch in batches for change in batch.changes if (event := self._event(change)) is not None]

    def _due_bookmark(self) -> list[WatchEvent]:
        now_s = asyncio.get_running_loop().time()
        if self._bookmark_due_s is None or now_s < self._bookmark_due_s:
            return []
        self._bookmark_due_s = now_s + self._ctx.settings.bookmark_s
        return [self._bookmark(self._seen)]

    def _event(self, change: Change) -> WatchEvent | None:
        match = self._match
        before = change.previous is not None and (match is None or match(change.previous))
        if change.deleted:
            return self._pool.event("DELETED", change.entry) if before else None
        after = match is None or match(change.entry)
        if after:
            return self._pool.event("MODIFIED" if before else "ADDED", change.entry)
        return self._pool.left(change) if before else None

    def _initial(self, entries: Sequence[Entry], mark: bool) -> Iterator[list[WatchEvent]]:
        """Yields an ADDED event for each object that exists, in chunks; then, if the client asked for it, the bookmark that ends the initial events."""
        match, revision = self._match, self._ctx.store.revision
        matching = entries if self._late else [entry for entry in entries if match is None or match(entry)]

        def pieces() -> Iterator[list[WatchEvent]]:
            events: list[WatchEvent] = []
            size = 0
            for entry in matching:
                events.append(WatchEvent("ADDED", entry))
                size += len(entry.value)
                if size >= _INITIAL_BYTES:
                    yield events
                    events, size = [], 0
            if events:
                yield events
            if mark:
                yield [self._bookmark(revision, {"k8s.io/initial-events-end": "true"})]

        return pieces()

    def _bookmark(self, revision: int, annotations: dict[str, str] | None = None) -> WatchEvent:
        metadata: dict[str, object] = {"resourceVersion": str(revision), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        value = msgspec.json.encode({"kind": self._kind.kind, "apiVersion": self._kind.api_version, "metadata": metadata})
        return WatchEvent("BOOKMARK", Entry("", value, revision, 0, client_bytes=value))


def _with(event: WatchEvent, entry: Entry) -> WatchEvent:
    return event if entry is event.entry else WatchEvent(event.type, entry)


def _check(options: ListOptions, initial: bool | None) -> None:
    """Checks that sendInitialEvents and resourceVersionMatch are used together. Raises 422."""
    wanted, path = options.resource_version_match, "resourceVersionMatch"
    errors: list[FieldError] = []
    if initial is not None and wanted != "NotOlderThan":
        errors.append(fields.forbidden(path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
    if wanted:
        if initial is None:
            errors.append(fields.forbidden(path, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"))
        if wanted != "NotOlderThan":
            errors.append(fields.not_supported(path, wanted, ("NotOlderThan",)))
        if options.continue_token:
            errors.append(fields.forbidden(path, "resourceVersionMatch is forbidden when continue is provided"))
    if errors:
        raise list_options_invalid(errors)
