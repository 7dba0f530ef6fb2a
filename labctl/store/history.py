"""The revisions that a watch may still begin at, in order, and about how much memory they hold."""

from __future__ import annotations

from bisect import bisect_right

from labctl.store.interface import Batch

ENTRY_BYTES = 2048  # what a change costs beside its value: measured, with the view of it that somebody looked at


class History:
    def __init__(self, bound_bytes: int) -> None:
        self._batches: list[Batch] = []
        self._bound_bytes = bound_bytes
        self._held_bytes = 0

    def append(self, batch: Batch) -> None:
        self._batches.append(batch)
        self._held_bytes += _size(batch)

    def since(self, revision: int) -> list[Batch]:
        return self._batches[self._after(revision) :]

    def forget(self, before: int) -> None:
        kept = self._after(before)
        self._held_bytes -= sum(_size(batch) for batch in self._batches[:kept])
        del self._batches[:kept]

    @property
    def surplus(self) -> int:
        """The revision up to which to forget, when more is held than should be: half of it. 0 otherwise."""
        if self._held_bytes <= self._bound_bytes:
            return 0
        return self._batches[len(self._batches) // 2].revision

    def _after(self, revision: int) -> int:
        return bisect_right(self._batches, revision, key=lambda batch: batch.revision)


def _size(batch: Batch) -> int:
    """About what a batch holds. Each value counts twice: once as it is stored, and once as clients were shown it (`Entry.shown`)."""
    return sum(2 * len(change.entry.value) + ENTRY_BYTES for change in batch.changes)
