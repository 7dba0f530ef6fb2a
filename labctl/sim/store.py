"""The simplest Store that keeps the contract (store/interface.py): one list of batches, and everything else computed from it.

Nothing is staged, cached or indexed, and there is no thread and no engine: a commit is durable when it is in the list. So it shows what the contract requires,
separately from how the real one (store/log.py) makes that fast and durable. The contract's tests run on both.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from labctl.errors import Compacted, Conflict, Lagging, Unavailable
from labctl.store.engine import Loaded
from labctl.store.file import write
from labctl.store.interface import Batch, Change, Compare, Entry, Op, Page, Put


class SimplestWatch:
    """What one watcher has not read yet. It ends when it is closed, or with an error when more than `backlog` batches wait."""

    def __init__(self, prefix: str, backlog: int) -> None:
        self.prefix = prefix
        self._backlog = backlog
        self._waiting: deque[Batch] = deque()
        self._news = asyncio.Event()
        self.closed = self._lagging = False

    def deliver(self, batch: Batch, *, bounded: bool = True) -> None:
        changes = tuple(change for change in batch.changes if change.key.startswith(self.prefix))
        if not changes or self.closed:
            return
        if bounded and len(self._waiting) >= self._backlog:
            self.closed = self._lagging = True
            self._waiting.clear()
        else:
            self._waiting.append(Batch(batch.revision, changes))
        self._news.set()

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self

    async def __anext__(self) -> Batch:
        while not self._waiting:
            if self._lagging:
                raise Lagging("the watcher fell behind")
            if self.closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()

    def take(self) -> list[Batch]:
        if self._lagging:
            raise Lagging("the watcher fell behind")
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def listen(self, listener: Callable[[], bool]) -> None:
        """Ignores it: `anext` hands everything over."""

    async def aclose(self) -> None:
        self.closed = True
        self._waiting.clear()
        self._news.set()


class SimplestStore:
    """The store. `kept` is a closed one whose content this one continues with."""

    refusing = False
    compaction_target = 0

    def __init__(self, kept: SimplestStore | None = None, watch_backlog: int = 10_000) -> None:
        self._batches: list[Batch] = list(kept._batches) if kept else []
        self._base: dict[str, Entry] = dict(kept._base) if kept else {}  # what stood at `compacted`
        self.compacted: int = kept.compacted if kept else 0
        self.revision: int = kept.revision if kept else 0
        self._watches: list[SimplestWatch] = []
        self._backlog = watch_backlog
        self._closed = False

    def _at(self, revision: int) -> dict[str, Entry]:
        entries = dict(self._base)
        for batch in self._batches:
            for change in batch.changes if batch.revision <= revision else ():
                if change.deleted:
                    del entries[change.key]
                else:
                    entries[change.key] = change.entry
        return entries

    def get(self, key: str) -> Entry | None:
        return self._at(self.revision).get(key)

    def has(self, prefix: str) -> bool:
        return any(key.startswith(prefix) for key in self._at(self.revision))

    def changed_at(self, prefix: str) -> int:
        changes = (batch.revision for batch in self._batches for change in batch.changes if change.key.startswith(prefix))
        return max(changes, default=self.compacted)

    def range(self, prefix: str, at: int = 0, after: str = "", limit: int = 0) -> Page:
        revision = at or self.revision
        if revision > self.revision:
            raise ValueError(f"revision {at} is in the future; the newest is {self.revision}")
        if revision < self.compacted:
            raise Compacted(at, self.compacted)
        entries = self._at(revision)
        found = [entries[key] for key in sorted(entries) if key.startswith(prefix) and key > after]
        shown = found[:limit] if limit else found
        return Page(shown, revision, len(shown) < len(found), len(found) - len(shown))

    def watch(self, prefix: str, since: int) -> SimplestWatch:
        if since < self.compacted:
            raise Compacted(since, self.compacted)
        watch = SimplestWatch(prefix, self._backlog)
        for batch in self._batches:
            if batch.revision > since:
                watch.deliver(batch, bounded=False)
        self._watches = [*(each for each in self._watches if not each.closed), watch]
        return watch

    async def commit(self, ops: Sequence[Op], compares: Sequence[Compare] = (), *, lazy: bool = False) -> int:
        if self._closed:
            raise Unavailable("the store is closed")
        now = self._at(self.revision)
        for compare in compares:
            actual = now[compare.key].revision if compare.key in now else 0
            if actual != compare.revision:
                raise Conflict(compare.key, actual)
        revision = self.revision + 1
        changes = tuple(self._change(op, now.get(op.key), revision) for op in ops if isinstance(op, Put) or op.key in now)
        if not changes:
            return self.revision
        batch = Batch(revision, changes)
        self._batches.append(batch)
        self.revision = revision
        for watch in self._watches:
            watch.deliver(batch)
        return revision

    @staticmethod
    def _change(op: Op, previous: Entry | None, revision: int) -> Change:
        created = previous.created if previous else revision
        value = op.value if isinstance(op, Put) else op.final
        return Change(Entry(op.key, value, revision, created), previous, deleted=not isinstance(op, Put))

    async def wait_finished(self, revision: int) -> None:
        """Return at once, because nothing is ever staged."""

    async def compact(self, before: int) -> None:
        if before > self.compacted:
            self._base = self._at(before)
            self._batches = [batch for batch in self._batches if batch.revision > before]
            self.compacted = before

    async def snapshot(self, path: Path) -> int:
        rows = [(entry.revision, entry.key, entry.value, entry.created, False) for entry in self._at(self.revision).values()]
        write(path, Loaded(self.revision, self.revision, tuple(sorted(rows))))
        return self.revision

    async def close(self) -> None:
        self._closed = True
        for watch in self._watches:
            await watch.aclose()
