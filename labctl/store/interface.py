"""The revisioned log: bytes under keys. etcd's contract (etcd.io/docs/v3.5/learning/api), because etcd is the engine for several masters.

Who calls it: `resources` (reads and writes objects), `reconcile` and `api` (watch). It knows no kind.
What flows: Ops in, one new revision out, and the same Batch to every watcher, in order, after it is durable.
What it never does: interpret a value; show what is not on disk; lose, repeat or reorder an event for a watcher.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec


class Entry(msgspec.Struct, gc=False, eq=False):
    """A key as it stands at some revision. The revision lies beside the value, never in it, so that any engine may assign it after the write.

    Immutable but for what readers keep with it so that they make it once: `memo`, what one of them decoded, and `shown`, the bytes as clients see them.
    """

    key: str
    value: bytes
    revision: int  # of the last write of this key
    created: int  # revision at which the key came to be
    memo: Any = None
    shown: bytes = b""


class Put(msgspec.Struct, frozen=True, gc=False):
    key: str
    value: bytes


class Delete(msgspec.Struct, frozen=True, gc=False):
    """`final` is the last state that watchers are shown; empty for claim keys."""

    key: str
    final: bytes = b""


Op = Put | Delete


class Compare(msgspec.Struct, frozen=True, gc=False):
    """The key must be at this revision when the commit is sequenced; 0: it must not exist."""

    key: str
    revision: int


class Change(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One key's change in one revision. `entry` is the new state (for a deletion: the final one); `previous` what it was, None if created."""

    entry: Entry
    previous: Entry | None
    deleted: bool = False

    @property
    def key(self) -> str:
        return self.entry.key


class Batch(msgspec.Struct, frozen=True, gc=False, eq=False):
    """All changes of one revision under the watched prefix, in the order of the commit's ops. An empty `changes` is a bookmark: nothing happened up to `revision`."""

    revision: int
    changes: tuple[Change, ...]


class Page(msgspec.Struct, frozen=True, gc=False, eq=False):
    """Entries in key order at `revision`; `more` tells whether the limit cut it, `remaining` how many keys follow (-1: not counted)."""

    entries: Sequence[Entry]
    revision: int
    more: bool = False
    remaining: int = 0


class Watch(Protocol):
    """An iterator of batches that can also be emptied at once."""

    def __aiter__(self) -> AsyncIterator[Batch]: ...

    async def __anext__(self) -> Batch: ...

    def take(self) -> list[Batch]:
        """Everything that is waiting, without waiting: for readers that handle many changes at once."""

    async def aclose(self) -> None:
        """Unregister."""


class Store(Protocol):
    """Called on one asyncio loop. `commit` alone waits; reads are of memory and answer at once."""

    @property
    def revision(self) -> int:
        """The highest revision that is durable and visible."""

    @property
    def compacted(self) -> int:
        """Revisions below this can't be read or watched from any more."""

    @property
    def refusing(self) -> bool:
        """The disk refused the last commit, and none has succeeded since."""

    async def commit(self, ops: Sequence[Op], compares: Sequence[Compare] = (), *, lazy: bool = False) -> int:
        """All or none, one new revision, durable and visible on return.

        Compared against the newest staged state, so that two callers can't both win. `lazy` commits keep their place in the order
        but may wait for the next group (lease renewals, Events). Raises Conflict (nothing is written), Unavailable.
        """

    async def reached(self, revision: int) -> None:
        """Wait until what was staged at this revision is visible or has failed. Returns at once if nothing is staged there."""

    def get(self, key: str) -> Entry | None:
        """The key as it stands at `revision`."""

    def range(self, prefix: str, at: int = 0, after: str = "", limit: int = 0) -> Page:
        """Entries whose key starts with `prefix` and is greater than `after`; `at` 0: now. Raises Compacted; ValueError for a future revision."""

    def watch(self, prefix: str, since: int) -> Watch:
        """Each revision later than `since` that touches the prefix, once, in order. Registered at the call, not at the first `anext`.

        Raises Compacted at the call, Lagging from the iterator when more than a bound is waiting. Closing the iterator (`aclose`) unregisters it.
        """

    @property
    def surplus(self) -> int:
        """A revision to compact to, because more history is held than should be; 0: no need."""

    async def compact(self, before: int) -> None:
        """Forget history below `before`; live keys stay. Unavailable if the disk refused it: then only memory has forgotten."""

    async def snapshot(self, path: Path) -> int:
        """Write all that is durable now into a new file, and answer its revision; commits wait meanwhile. `sqlite.rewind` makes a store of it again."""

    async def close(self) -> None:
        """Wait for what is staged, then let go of the disk."""
