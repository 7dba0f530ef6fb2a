"""LogStore gives each commit its revision, has an engine make groups of commits durable, and then delivers the same batch to every watcher.

    commit ─► compare against the staged head ─► revision ─► stage ─► engine.append(group) ─► visible ─► watchers ─► callers answered

Only after the engine has a group on disk does any of it become visible to get, range and watch, and only then are its callers answered, in order.
If the engine fails, for whatever reason, the group and everything staged after it fails, and the head is rebuilt from disk before the next write
is let in and before the callers are told: what the engine wrote in spite of its error is then shown, because the truth is what is on disk.

History back to the last compaction is kept in memory: a watch from any revision since, and reads of the past, need no disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sortedcontainers import SortedDict

from labctl.errors import Compacted, Conflict, StoreError, Unavailable
from labctl.store.engine import Engine, Loaded
from labctl.store.history import History
from labctl.store.interface import Batch, Change, Compare, Delete, Entry, Op, Page, Put
from labctl.store.settings import StoreSettings
from labctl.store.watcher import Watcher, under

log = logging.getLogger(__name__)

_LAST = "\U0010ffff"


class _Staged:
    """A commit that has its revision but is not durable yet."""

    __slots__ = ("batch", "waiting")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.waiting: list[asyncio.Future[int]] = []  # its caller, and whoever else wants to know when it is visible

    def wait(self) -> asyncio.Future[int]:
        """Returns a future of the revision for one more caller who waits. It may be cancelled without any effect on the others."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        return future

    def finish(self) -> None:
        for future in self.waiting:
            if not future.done():
                future.set_result(self.batch.revision)

    def fail(self, error: StoreError) -> None:
        for future in self.waiting:
            if not future.done():
                future.set_exception(Unavailable(error.message, mend=error.mend))
                future.exception()  # otherwise asyncio logs "never retrieved" for a caller that was cancelled


class LogStore:
    """Implements Store (see interface.py) with any Engine."""

    def __init__(self, engine: Engine, settings: StoreSettings = StoreSettings()) -> None:  # noqa: B008 - frozen
        self._engine = engine
        self._settings = settings
        self._head: SortedDict[str, Entry] = SortedDict()
        self._history = History(settings.history_bytes)  # each revision above `compacted`
        self._revision = self._compacted = 0
        self._changed_at: dict[
            str, int
        ] = {}  # by the first segment of the key: the newest revision that changed such a key since the start
        self._loaded = 0  # the revision at the start
        self._staged: deque[_Staged] = deque()
        self._staged_head: dict[str, Change] = {}  # the newest change of each key that is not visible yet
        self._next = 1
        self._watchers: dict[str, list[Watcher]] = {}
        self._flushing: asyncio.Task[None] | None = None
        self._lazy_timer: asyncio.TimerHandle | None = None
        self._broken = False
        self._recovering: asyncio.Task[None] | None = None
        self.refusing = False
        """The disk refused the last commit, and none has succeeded since."""
        self._closed = False
        self._load()

    # -- reading ---------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        return self._revision

    @property
    def compacted(self) -> int:
        return self._compacted

    def get(self, key: str) -> Entry | None:
        return self._head.get(key)

    def range(self, prefix: str, at: int = 0, after: str = "", limit: int = 0) -> Page:
        entries, revision = self._head, self._revision
        if at and at != revision:
            if at > revision:
                raise ValueError(f"revision {at} is in the future; the newest is {revision}")
            if at < self._compacted:
                raise Compacted(at, self._compacted)
            entries, revision = self._past(prefix, at), at
        low = after if after > prefix else prefix
        keys = entries.irange(low, prefix + _LAST, inclusive=(low is prefix, True))
        if not limit:
            return Page([entries[key] for key in keys], revision)
        found: list[Entry] = []
        for key in keys:
            if len(found) == limit:
                first, last = entries.bisect_left(key), entries.bisect_right(prefix + _LAST)
                return Page(found, revision, True, last - first)
            found.append(entries[key])
        return Page(found, revision)

    def has(self, prefix: str) -> bool:
        keys = self._head.keys()
        place = self._head.bisect_left(prefix)
        return place < len(keys) and keys[place].startswith(prefix)

    def changed_at(self, prefix: str) -> int:
        return self._changed_at.get(prefix[: prefix.index("/")], self._loaded)

    def _past(self, prefix: str, at: int) -> SortedDict[str, Entry]:
        """Returns the keys under `prefix` as they were at revision `at`: it takes the current ones and undoes the later changes, the newest first."""
        entries = SortedDict((key, self._head[key]) for key in self._head.irange(prefix, prefix + _LAST))
        for batch in reversed(self._history.since(at)):
            for change in batch.changes:
                if not change.key.startswith(prefix):
                    continue
                if change.previous is None:
                    entries.pop(change.key, None)
                else:
                    entries[change.key] = change.previous
        return entries

    # -- watching --------------------------------------------------------------------------------------------------

    def watch(self, prefix: str, since: int) -> Watcher:
        if since < self._compacted:
            raise Compacted(since, self._compacted)
        watcher = Watcher(self._settings.watch_backlog, self._forget(prefix))
        for batch in self._history.since(since):
            part = under(batch, prefix)
            if part:
                watcher.deliver(part, bounded=False)
        self._watchers.setdefault(prefix, []).append(watcher)
        return watcher

    def _forget(self, prefix: str) -> Callable[[Watcher], None]:
        def forget(watcher: Watcher) -> None:
            watchers = self._watchers.get(prefix, [])
            if watcher in watchers:
                watchers.remove(watcher)
                if not watchers:
                    del self._watchers[prefix]

        return forget

    # -- writing ---------------------------------------------------------------------------------------------------

    async def commit(self, ops: Sequence[Op], compares: Sequence[Compare] = (), *, lazy: bool = False) -> int:
        if self._closed:
            raise Unavailable("the store is closed")
        while self._broken:
            await self._recover()
        for compare in compares:
            newest = self._newest(compare.key)
            actual = newest.revision if newest else 0
            if actual != compare.revision:
                staged = self._staged_head.get(compare.key)
                raise Conflict(compare.key, actual, staged.entry.revision if staged else actual)
        revision = self._next
        changes = tuple([change for op in ops if (change := self._change(op, revision))])
        if not changes:
            return self._revision
        assert len(changes) == 1 or len({change.key for change in changes}) == len(changes), "one commit changes a key once"
        self._next += 1
        for change in changes:
            self._staged_head[change.entry.key] = change
        batch = _Staged(Batch(revision, changes))
        self._staged.append(batch)
        self._wake(lazy)
        return await batch.wait()

    async def wait_finished(self, revision: int) -> None:
        if not self._staged:
            return
        place = revision - self._staged[0].batch.revision  # staged revisions follow each other without a gap
        if 0 <= place < len(self._staged):
            with contextlib.suppress(Unavailable):
                await self._staged[place].wait()

    def _newest(self, key: str) -> Entry | None:
        change = self._staged_head.get(key)
        if change is None:
            return self._head.get(key)
        return None if change.deleted else change.entry

    def _change(self, op: Op, revision: int) -> Change | None:
        previous = self._newest(op.key)
        if isinstance(op, Put):
            created = previous.created if previous else revision
            return Change(Entry(op.key, op.value, revision, created), previous)
        if previous is None:
            return None
        assert isinstance(op, Delete)
        return Change(Entry(op.key, op.final, revision, previous.created), previous, deleted=True)

    def _wake(self, lazy: bool) -> None:
        if self._flushing is not None:
            return
        loop = asyncio.get_running_loop()
        if lazy and self._settings.lazy_s > 0:
            if self._lazy_timer is None:
                self._lazy_timer = loop.call_later(self._settings.lazy_s, self._start_flush)
            return
        self._start_flush()

    def _start_flush(self) -> None:
        if self._lazy_timer is not None:
            self._lazy_timer.cancel()
            self._lazy_timer = None
        if self._flushing is None and self._staged:
            self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        """Makes groups durable and visible until nothing is staged. Whatever goes wrong, every caller who waits gets an answer."""
        error: StoreError | None = None
        try:
            await self._write_groups()
        except StoreError as said:
            error = said
        except asyncio.CancelledError:
            self._give_up(self._broke(), Unavailable("the store's writer was cancelled"))
            raise
        except Exception as mistake:  # ours; the writers must not wait for ever
            log.exception("the store could not write a group")
            error = Unavailable(f"the store could not write: {mistake!r}")
        finally:
            self._flushing = None  # who commits from now on begins a flush of its own
        if error is not None:
            await self._fail(error)

    async def _write_groups(self) -> None:
        while self._staged:
            group = [self._staged[i] for i in range(min(len(self._staged), self._settings.group_max))]
            await self._engine.append([staged.batch for staged in group])
            self.refusing = False
            for staged in group:
                self._publish(staged.batch)
                self._staged.popleft()
                staged.finish()

    def _publish(self, batch: Batch) -> None:
        for change in batch.changes:
            key = change.entry.key
            if change.deleted:
                self._head.pop(key, None)
            else:
                self._head[key] = change.entry
            if self._staged_head.get(key) is change:
                del self._staged_head[key]
            self._changed_at[key.partition("/")[0]] = batch.revision
        self._history.append(batch)
        self._revision = batch.revision
        for prefix, watchers in tuple(self._watchers.items()):
            part = under(batch, prefix)
            if part:
                for watcher in tuple(watchers):
                    watcher.deliver(part)

    # -- failing ---------------------------------------------------------------------------------------------------

    async def _fail(self, error: StoreError) -> None:
        """Tells the writers that it failed, but looks at the disk first: who is told of an error then reads what was written in spite of it."""
        failed = self._broke()
        try:
            with contextlib.suppress(StoreError):  # the next commit tries again
                await self._recover()
        finally:
            self._give_up(failed, error)

    def _broke(self) -> deque[_Staged]:
        """Notes that memory may not be what is on disk, and returns what was staged."""
        failed, self._staged = self._staged, deque()
        self._staged_head.clear()
        self._broken = self.refusing = True
        return failed

    def _give_up(self, failed: Iterable[_Staged], error: StoreError) -> None:
        for staged in failed:
            staged.fail(error)

    async def _recover(self) -> None:
        """Rebuilds the state from disk, once for all who wait for it. Raises StoreError if the disk can't be read."""
        if self._recovering is None:
            self._recovering = asyncio.get_running_loop().create_task(self._rebuild())
            self._recovering.add_done_callback(self._recovered)
        await asyncio.shield(self._recovering)

    def _recovered(self, task: asyncio.Task[None]) -> None:
        self._recovering = None
        if not task.cancelled():
            task.exception()  # callers that wait get the error; without any, asyncio must not log it as "never retrieved"

    async def _rebuild(self) -> None:
        """Takes over the content of the disk, and delivers to the watchers what a failed append wrote in spite of its error."""
        before = self._revision
        loaded = await self._engine.reload()
        if loaded.revision > before:
            for batch in _batches(loaded, self._head, above=before):
                self._publish(batch)
        self._next = self._revision + 1
        self._broken = False

    def _load(self) -> None:
        loaded = self._engine.load()
        self._compacted = loaded.compacted
        for batch in _batches(loaded, self._head, above=0):
            if batch.revision > loaded.compacted:
                self._history.append(batch)
        self._revision = max(loaded.revision, loaded.compacted, self._settings.min_revision)
        self._next = self._revision + 1
        self._loaded = self._revision

    # -- compacting ------------------------------------------------------------------------------------------------

    @property
    def compaction_target(self) -> int:
        return self._history.compaction_target

    async def compact(self, before: int) -> None:
        before = min(before, self._revision)
        if before <= self._compacted:
            return
        self._compacted = before  # Forget it in memory first. If the disk refuses, the next compaction tries again.
        self._history.forget(before)
        await self._engine.compact(before)

    async def snapshot(self, path: Path) -> int:
        return await self._engine.snapshot(path)

    async def close(self) -> None:
        self._closed = True
        self._start_flush()
        while self._flushing is not None:
            await self._flushing
        if self._recovering is not None:
            await asyncio.wait([self._recovering])
        for watchers in tuple(self._watchers.values()):
            for watcher in tuple(watchers):
                watcher.fail(Unavailable("the store is closed"))
        self._engine.close()


def _batches(loaded: Loaded, head: SortedDict[str, Entry], above: int) -> list[Batch]:
    """Returns the loaded changes above a revision as batches. It updates `head` on the way, because each change carries the entry before it."""
    batches: list[Batch] = []
    changes: list[Change] = []
    for i, (revision, key, value, created, deleted) in enumerate(loaded.changes):
        if revision <= above:
            continue
        entry = Entry(key, value, revision, created)
        changes.append(Change(entry, head.get(key), deleted))
        if deleted:
            head.pop(key, None)
        else:
            head[key] = entry
        if i + 1 == len(loaded.changes) or loaded.changes[i + 1][0] != revision:
            batches.append(Batch(revision, tuple(changes)))
            changes = []
    return batches
