"""What the log asks of an engine, which keeps its batches: in SQLite, in memory, or in tests in a way that fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from labctl.store.interface import Batch


class Loaded(msgspec.Struct, frozen=True):
    """The content of the disk: every change that is still kept, in order. Changes at or below `compacted` only serve to rebuild the head."""

    revision: int
    compacted: int
    changes: Sequence[tuple[int, str, bytes, int, bool]]  # revision, key, value, created, deleted


class Engine(Protocol):
    """An engine makes groups of batches durable. One LogStore uses it, with one call at a time."""

    def load(self) -> Loaded:
        """Reads everything that is kept. It is called once, before anything else."""

    async def reload(self) -> Loaded:
        """Reads everything again after a failure, when nothing else uses the disk. Raises StoreError."""

    async def append(self, group: Sequence[Batch]) -> None:
        """Writes the whole group or nothing of it; on return it is durable. If it raises Unavailable, nobody knows whether the group is on disk."""

    async def compact(self, revision: int) -> None:
        """Drops what no reader at or above `revision` can see."""

    async def snapshot(self, path: Path) -> int:
        """Writes everything that is durable into a new SQLite file and returns its revision."""

    def close(self) -> None: ...
