"""The contract of the store: a log of revisions that keeps bytes under keys.

It is etcd's contract (etcd.io/docs/v3.5/learning/api), because etcd is the engine where a lab has several masters.
Who calls it: `resources` (reads and writes objects), `reconcile` and `api` (watch). It knows no kind.
What flows: Ops in, one new revision out, and the same Batch to every watcher, in order, after it is durable.
What it never does: interpret a value; show what is not on disk; lose, repeat or reorder an event for a watcher.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec


class Entry(msgspec.Struct, gc=False, eq=False):
    """An entry is the state of a key at one revision. The revision stands beside the value, never in it, so that any engine may assign it after the write.

    An entry never changes, except for two fields in which `resources` caches what it derives from the value: `memo` holds the decoded object, and
    `client_bytes` the JSON that clients get.
    """

    key: str
    value: bytes
    revision: int  # of the last write of this key
    created: int  # the revision that created the key
    memo: Any = None
    client_bytes: bytes = b""


class Put(msgspec.Struct, frozen=True, gc=False):
    """An operation that creates the key or replaces its value."""

    key: str
    value: bytes


class Delete(msgspec.Struct, frozen=True, gc=False):
    """An operation that deletes the key. `final` is the last value, which watchers receive with the deletion; it is empty for claim keys."""

    key: str
    final: bytes = b""


Op = Put | Delete


class Compare(msgspec.Struct, frozen=True, gc=False):
    """A condition of a commit: the key must be at this revision when the commit gets its own. 0 means that the key must not exist."""

    key: str
    revision: int


class Change(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One key's change in one revision. `entry` is the new state (for a deletion: the last one); `previous` is the state before, None if the key is new."""

    entry: Entry
    previous: Entry | None
    deleted: bool = False

    @property
    def key(self) -> str:
        return self.entry.key


class Batch(msgspec.Struct, frozen=True, gc=False, eq=False):
    """A batch holds all changes of one revision under the watched prefix, in the order of the commit's operations.

    A batch without changes is a bookmark: it says that nothing happened up to `revision`.
    """

    revision: int
    changes: tuple[Change, ...]


class Page(msgspec.Struct, frozen=True, gc=False, eq=False):
    """A page holds entries in key order, as of `revision`. `more` is True if the limit cut the list; `remaining` says how many keys follow (-1: not counted)."""

    entries: Sequence[Entry]
    revision: int
    more: bool = False
    remaining: int = 0


class Watch(Protocol):
    """A watch is an iterator of batches. `take` hands over all waiting batches at once."""

    def __aiter__(self) -> AsyncIterator[Batch]: ...

    async def __anext__(self) -> Batch: ...

    def take(self) -> list[Batch]:
        """Returns every batch that waits to be read, and never blocks. Readers that handle many changes at once use it. Raises Lagging."""

    def listen(self, listener: Callable[[], bool]) -> None:
        """Names a function that spares a reader who waits in `anext` from being woken for each batch.

        It is called soon after batches became visible, on the loop, and once for all of them. It returns True if it has taken them; otherwise `anext` hands
        them over. A store may ignore it. If it raises, `anext` raises that.
        """

    async def aclose(self) -> None:
        """Ends the watch: the store delivers nothing more to it."""


class Store(Protocol):
    """The store. All methods are called on one asyncio loop. Reads are answered from memory at once; only the asynchronous methods wait."""

    @property
    def revision(self) -> int:
        """Return the highest revision that is durable and visible."""

    @property
    def compacted(self) -> int:
        """Return the oldest revision that can still be read, and from which a watch can still start."""

    @property
    def refusing(self) -> bool:
        """True if the disk refused the last commit and no commit has succeeded since."""

    async def commit(self, ops: Sequence[Op], compares: Sequence[Compare] = (), *, lazy: bool = False) -> int:
        """Writes all operations or none, as one new revision, which is durable and visible when the call returns.

        The compares look at the newest staged state, so that two callers can't both win. A `lazy` commit keeps its place in the order but may wait
        for the next group (lease renewals, Events). Raises Conflict if a compare fails (then nothing is written), and Unavailable: then it may be
        written all the same, and reads show that at once if the disk can be read.
        """

    async def wait_finished(self, revision: int) -> None:
        """Waits until the commit that is staged at this revision is visible or has failed. Returns at once if none is staged there."""

    def get(self, key: str) -> Entry | None:
        """Returns the key's entry at the current `revision`, or None if the key does not exist."""

    def range(self, prefix: str, at: int = 0, after: str = "", limit: int = 0) -> Page:
        """Returns the entries whose key starts with `prefix` and is greater than `after`, as of revision `at` (0: the current one).

        Raises Compacted for a revision that is no longer kept, and ValueError for a future one.
        """

    def has(self, prefix: str) -> bool:
        """Tells whether a key starts with `prefix` at the current `revision`. It costs no more than `get`."""

    def changed_at(self, prefix: str) -> int:
        """Returns a revision at or above that of the newest visible change below `prefix`, which contains a `/`. As long as it stays the same, so does
        what `range` finds there."""

    def watch(self, prefix: str, since: int) -> Watch:
        """Delivers each revision later than `since` that touches the prefix, once and in order. The watch begins at the call, not at the first `anext`.

        Raises Compacted at the call. The iterator raises Lagging when more batches wait than the bound allows. `aclose` ends the watch.
        """

    @property
    def compaction_target(self) -> int:
        """Return the revision to which the history should be compacted because memory holds too much of it, or 0."""

    async def compact(self, before: int) -> None:
        """Drops the history below `before`; keys that exist are kept. Raises Unavailable if the disk refuses: then only memory has dropped it."""

    async def snapshot(self, path: Path) -> int:
        """Writes all that is durable now into a new file and returns its revision; commits wait meanwhile. `file.rewind` makes a store of that file."""

    async def close(self) -> None:
        """Waits for the staged commits, then closes the file."""
