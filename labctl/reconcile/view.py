"""The live view: every object, typed and indexed, as of one revision of the store.

Who calls it: the runner feeds it (`load` once, then `apply` for every batch of the watch) and hands it to plan functions, which only read.
Objects are the store's own entries and typed views, shared with all who read them, so the view costs a table and its indexes.
An index also holds since when each key has been found under a value: so "not ready for 5 minutes" is known without reading the clock of another
machine. The view never waits, and only the runner changes it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from labctl.clock import Clock
from labctl.reconcile.plan import EVERY, Index, Key, Seen
from labctl.resources.encoding import decoded
from labctl.store.interface import Batch, Entry, Page


class _Row(msgspec.Struct, gc=False):
    entry: Entry
    view: Any
    seen: float
    values: tuple[tuple[str, ...], ...] = ()  # what each index of the kind held it under


class _Sorted:
    """Keys, each with a time. Their order is computed when somebody asks for it."""

    __slots__ = ("times", "_order")

    def __init__(self) -> None:
        self.times: dict[Key, float] = {}
        self._order: list[Key] | None = []

    def put(self, key: Key, time: float) -> None:
        self.times[key] = time
        self._order = None

    def drop(self, key: Key) -> None:
        if self.times.pop(key, None) is not None:
            self._order = None

    def order(self) -> list[Key]:
        if self._order is None:
            self._order = sorted(self.times)
        return self._order


class _Table:
    """One kind's objects and indexes."""

    def __init__(self) -> None:
        self.rows: dict[Key, _Row] = {}
        self.keys = _Sorted()
        self.functions: list[Index] = []
        self.buckets: list[dict[str, _Sorted]] = []  # of each function
        self.by_name: dict[str, dict[str, _Sorted]] = {}  # the same, by the index's name

    def bucket(self, index: str, value: str) -> _Sorted | None:
        return self.by_name[index].get(value)

    def put(self, key: Key, entry: Entry, view: Any, now: float) -> None:
        old = self.rows.get(key)
        values = tuple([tuple(function(view)) for function in self.functions])
        if old is None:
            self.keys.put(key, now)
            self._enter(key, (), values, now)
        elif old.values != values:
            self._enter(key, old.values, values, now)
        self.rows[key] = _Row(entry, view, now, values)

    def drop(self, key: Key) -> None:
        row = self.rows.pop(key)
        self.keys.drop(key)
        self._enter(key, row.values, ((),) * len(self.functions), 0.0)

    def _enter(self, key: Key, old: Sequence[Sequence[str]], new: Sequence[Sequence[str]], now: float) -> None:
        for number, values in enumerate(new):
            before = old[number] if old else ()
            if before == values:
                continue
            buckets = self.buckets[number]
            for value in before:
                if value not in values:
                    buckets[value].drop(key)
                    if not buckets[value].times:
                        del buckets[value]
            for value in values:
                if value not in before:
                    if value not in buckets:
                        buckets[value] = _Sorted()
                    buckets[value].put(key, now)


class _Everywhere:
    """An index over the objects of every kind."""

    def __init__(self, function: Index) -> None:
        self.function = function
        self.buckets: dict[str, dict[tuple[str, Key], None]] = {}

    def change(self, kind: str, key: Key, old: Any, new: Any) -> None:
        before = () if old is None else tuple(self.function(old))
        after = () if new is None else tuple(self.function(new))
        if before == after:
            return
        for value in before:
            bucket = self.buckets.get(value, {})
            bucket.pop((kind, key), None)
            if not bucket:
                self.buckets.pop(value, None)
        for value in after:
            self.buckets.setdefault(value, {})[kind, key] = None


class LiveView:
    """`decode` answers an entry's typed view (memoised on it) or None for keys that are no object, such as claims.

    `unreadable(key, error)` hears of a stored object that can't be decoded or indexed. Such an object stays in the view as it was last read.
    """

    def __init__(
        self,
        decode: Callable[[Entry], Any],
        clock: Clock,
        indexes: Mapping[tuple[str, str], Index] = {},
        unreadable: Callable[[str, Exception], None] | None = None,
    ) -> None:
        self._decode = decode
        self._unreadable = unreadable
        self._clock = clock
        self._tables: defaultdict[str, _Table] = defaultdict(_Table)
        self._revision = 0
        self._begun = 0
        self._loaded = False
        self._everywhere: dict[str, _Everywhere] = {}
        for (kind, name), function in indexes.items():
            if kind == EVERY:
                self._everywhere[name] = _Everywhere(function)
                continue
            table = self._tables[kind]
            table.functions.append(function)
            table.buckets.append(table.by_name.setdefault(name, {}))

    # -- read: the View protocol -------------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        return self._revision

    def get(self, kind: str, key: Key) -> Any:
        row = self._tables[kind].rows.get(key)
        return None if row is None else row.view

    def raw(self, kind: str, key: Key) -> dict[str, Any] | None:
        row = self._tables[kind].rows.get(key)
        return None if row is None else decoded(row.entry)

    def all(self, kind: str, namespace: str = "") -> Iterator[Any]:
        table = self._tables[kind]
        if not table.rows:
            return iter(())
        keys = table.keys.order()
        if namespace:
            keys = keys[bisect_left(keys, f"{namespace}/") : bisect_left(keys, f"{namespace}0")]  # "0" follows "/"
        return (table.rows[key].view for key in keys)

    def has(self, kind: str) -> bool:
        return bool(self._tables[kind].rows)

    def by(self, kind: str, index: str, value: str) -> Sequence[Any]:
        table = self._tables[kind]
        bucket = table.bucket(index, value)
        return [table.rows[key].view for key in bucket.order()] if bucket else ()

    def some(self, kind: str, index: str, value: str, at_most: int) -> Iterable[Any]:
        table = self._tables[kind]
        bucket = table.bucket(index, value)
        return [table.rows[key].view for key in islice(bucket.times, at_most)] if bucket else ()

    def count(self, kind: str, index: str, value: str) -> int:
        bucket = self._tables[kind].bucket(index, value)
        return len(bucket.times) if bucket else 0

    def everywhere(self, index: str, value: str) -> Sequence[tuple[str, Any]]:
        found = sorted(self._everywhere[index].buckets.get(value, ()))
        return [(kind, self._tables[kind].rows[key].view) for kind, key in found]

    @property
    def begun(self) -> int:
        return self._begun

    def seen(self, kind: str, key: Key) -> float:
        row = self._tables[kind].rows.get(key)
        return self._clock.now() if row is None else row.seen

    def since(self, kind: str, index: str, value: str, key: Key) -> float:
        bucket = self._tables[kind].bucket(index, value)
        return bucket.times[key] if bucket and key in bucket.times else self.seen(kind, key)

    def latest(self, kind: str, index: str, value: str) -> float:
        bucket = self._tables[kind].bucket(index, value)
        return max(bucket.times.values(), default=0.0) if bucket else 0.0

    def wall(self) -> float:
        return self._clock.wall()

    def kinds(self) -> list[str]:
        """Return every kind that has objects, in order."""
        return sorted(kind for kind, table in self._tables.items() if table.rows)

    # -- write: the runner alone -------------------------------------------------------------------------------------------------------

    def load(self, page: Page) -> list[Seen]:
        """Makes the view equal to what the store holds, and answers the differences. Objects that did not change keep their times."""
        changes: list[Seen] = []
        listed: set[tuple[str, Key]] = set()
        now = self._clock.now()
        for entry in sorted(page.entries, key=lambda entry: entry.created):  # who was created first is planned first
            kind, _, key = entry.key.partition("/")
            row = self._tables[kind].rows.get(key)
            listed.add((kind, key))
            if row is None or row.entry.revision != entry.revision:
                changes += self._put(kind, key, entry, now)
        gone = [(kind, key) for kind, table in self._tables.items() for key in table.rows if (kind, key) not in listed]
        for kind, key in gone:
            changes += self._drop(kind, key)
        self._revision = page.revision
        if not self._loaded:
            self._loaded, self._begun = True, page.revision
        return changes

    def apply(self, batch: Batch) -> list[Seen]:
        """Takes the changes of one revision in, and answers them with the typed views before and after."""
        changes: list[Seen] = []
        now = self._clock.now()
        for change in batch.changes:
            kind, _, key = change.key.partition("/")
            changes += self._drop(kind, key) if change.deleted else self._put(kind, key, change.entry, now)
        self._revision = max(self._revision, batch.revision)
        return changes

    def reload(self, kind: str, entries: Iterable[Entry]) -> list[Seen]:
        """Makes one kind equal to `entries`, after the kind came or went, and answers the differences."""
        changes: list[Seen] = []
        now, listed = self._clock.now(), set[Key]()
        for entry in sorted(entries, key=lambda entry: entry.created):
            key = entry.key.partition("/")[2]
            row = self._tables[kind].rows.get(key)
            listed.add(key)
            if row is None or row.entry.revision != entry.revision or row.entry.memo is None:
                changes += self._put(kind, key, entry, now)
        for key in [key for key in self._tables[kind].rows if key not in listed]:
            changes += self._drop(kind, key)
        return changes

    def begin_anew(self) -> None:
        """Lets all times count from now, because the clock jumped and nobody knows how long anything lasted."""
        now, self._begun = self._clock.now(), self._revision
        for table in self._tables.values():
            for row in table.rows.values():
                row.seen = now
            for buckets in table.buckets:
                for bucket in buckets.values():
                    bucket.times = dict.fromkeys(bucket.times, now)

    def _put(self, kind: str, key: Key, entry: Entry, now: float) -> Iterable[Seen]:
        try:
            new = self._decode(entry)
            if new is None:
                return ()
            old = self.get(kind, key)
            self._tables[kind].put(key, entry, new, now)
            for index in self._everywhere.values():
                index.change(kind, key, old, new)
        except Exception as error:
            if self._unreadable is None:
                raise
            self._unreadable(entry.key, error)
            return ()
        return (Seen(kind, key, old, new),)

    def _drop(self, kind: str, key: Key) -> Iterable[Seen]:
        old = self.get(kind, key)
        if old is None:
            return ()
        self._tables[kind].drop(key)
        for index in self._everywhere.values():
            index.change(kind, key, old, None)
        return (Seen(kind, key, old, None),)
