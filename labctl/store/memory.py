"""The memory engine has no disk and no thread. Tests, simulations and labs that need not survive their master use it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path

from labctl.store.engine import Loaded
from labctl.store.file import write
from labctl.store.interface import Batch, Change, Entry
from labctl.store.log import LogStore
from labctl.store.settings import StoreSettings


class MemoryEngine:
    """Keeps the log in memory: up to the last compaction the newest entry of each key, after it every change. They are the store's own objects, so they weigh
    nothing more. Compacting costs as much as came since the last time, however much is kept. A second store that is opened on it finds the log, as after a
    restart."""

    def __init__(self) -> None:
        self._newest: dict[str, Entry] = {}  # at the last compaction, in the order of their revisions
        self._since: deque[Change] = deque()
        self._compacted = 0
        self._revision = 0

    def load(self) -> Loaded:
        older = ((e.revision, e.key, e.value, e.created, False) for e in self._newest.values())
        newer = ((c.entry.revision, c.entry.key, c.entry.value, c.entry.created, c.deleted) for c in self._since)
        return Loaded(self._revision, self._compacted, (*older, *newer))

    async def reload(self) -> Loaded:
        return self.load()

    async def append(self, group: Sequence[Batch]) -> None:
        for batch in group:
            self._since.extend(batch.changes)
            self._revision = batch.revision

    async def compact(self, revision: int) -> None:
        self._compacted = revision
        while self._since and self._since[0].entry.revision <= revision:
            change = self._since.popleft()
            entry = change.entry
            self._newest.pop(entry.key, None)  # in any case: a key that is there keeps its old place in the order
            if not change.deleted:
                self._newest[entry.key] = entry

    async def snapshot(self, path: Path) -> int:
        write(path, self.load())
        return self._revision

    def close(self) -> None:
        pass


def memory_store(settings: StoreSettings = StoreSettings()) -> LogStore:  # noqa: B008 - frozen
    """Returns a Store that is lost when the process ends."""
    return LogStore(MemoryEngine(), settings)
