"""The history keeps the newest revisions in order, so that a watch can begin at any of them, and estimates how much memory they hold.

Only `LogStore` uses it. The history itself drops nothing: `LogStore.compact` says up to where.
"""

from __future__ import annotations

from bisect import bisect_right

from labctl.store.interface import Batch

ENTRY_BYTES = 2048  # memory that a change takes beside its value: measured, with the decoded object in its `memo`


class History:
    def __init__(self, bound_bytes: int) -> None:
        self._batches: list[Batch] = []
        self._bound_bytes = bound_bytes
        self._held_bytes = 0

    def append(self, batch: Batch) -> None:
        self._batches.append(batch)
        self._held_bytes += _size(batch)

    def since(self, revision: int) -> list[Batch]:
        """Returns the batches later than this revision."""
        return self._batches[self._after(revision) :]

    def forget(self, before: int) -> None:
        """Drops this revision and all before it."""
        kept = self._after(before)
        self._held_bytes -= sum(_size(batch) for batch in self._batches[:kept])
        del self._batches[:kept]

    @property
    def compaction_target(self) -> int:
        """Return the revision in the middle of the history if it holds more than its bound, else 0."""
        if self._held_bytes <= self._bound_bytes:
            return 0
        return self._batches[len(self._batches) // 2].revision

    def _after(self, revision: int) -> int:
        return bisect_right(self._batches, revision, key=lambda batch: batch.revision)


def _size(batch: Batch) -> int:
    """Estimates the memory of a batch. Each value counts twice: once as it is stored, and once as `Entry.client_bytes`."""
    return sum(2 * len(change.entry.value) + ENTRY_BYTES for change in batch.changes)
