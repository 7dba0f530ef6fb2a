"""The memory engine has no disk and no thread. Tests, simulations and labs that need not survive their master use it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labctl.store.engine import Loaded
from labctl.store.file import write
from labctl.store.interface import Batch
from labctl.store.log import LogStore
from labctl.store.settings import StoreSettings

_FEW = 1_000  # so few rows are looked through at each compaction


class MemoryEngine:
    """Keeps the log in a list. Compaction may keep more than it must, up to as much again. A second store that is opened on it finds the log, as after a restart."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, str, bytes, int, bool]] = []
        self._kept = 0  # rows after they were last looked through
        self._compacted = 0
        self._revision = 0

    def load(self) -> Loaded:
        return Loaded(self._revision, self._compacted, tuple(self._rows))

    async def reload(self) -> Loaded:
        return self.load()

    async def append(self, group: Sequence[Batch]) -> None:
        for batch in group:
            self._rows.extend((batch.revision, c.entry.key, c.entry.value, c.entry.created, c.deleted) for c in batch.changes)
            self._revision = batch.revision

    async def compact(self, revision: int) -> None:
        self._compacted = revision
        if _FEW < len(self._rows) < 2 * self._kept:  # what is kept costs as much to look at as what is dropped: not each time
            return
        newest: dict[str, int] = {}
        for at, key, *_ in self._rows:
            if at <= revision:
                newest[key] = at
        self._rows = [row for row in self._rows if row[0] > revision or (newest[row[1]] == row[0] and not row[4])]
        self._kept = len(self._rows)

    async def snapshot(self, path: Path) -> int:
        write(path, self.load())
        return self._revision

    def close(self) -> None:
        pass


def memory_store(settings: StoreSettings = StoreSettings()) -> LogStore:  # noqa: B008 - frozen
    """Returns a Store that is lost when the process ends."""
    return LogStore(MemoryEngine(), settings)
