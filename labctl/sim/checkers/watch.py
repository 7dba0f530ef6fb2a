"""Safety: a watch is a gapless prefix of the log. A reader that follows the log from its beginning, stops and goes on where it was, knows all that stands in
the store and nothing else; each change tells what stood there before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from labctl.errors import Compacted, Lagging

if TYPE_CHECKING:
    from labctl.store.interface import Batch, Entry
    from labctl.store.log import LogStore

RESUMED_AFTER = 200  # revisions: then it leaves its watch and begins another one where it is


class LogReader:
    """Follows the whole log through watches. `entries` is what it believes the store to hold; `changed` is the last revision of each key."""

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self._at = 0
        self.entries: dict[str, Entry] = {}
        self.changed: dict[str, int] = {}

    def catch_up(self) -> list[str]:
        """Read what there is now. Returns what is wrong."""
        found: list[str] = []
        while self._at < self._store.revision:
            before = self._at
            try:
                self._read(found)
            except (Compacted, Lagging) as error:
                return [*found, f"a watch from revision {self._at} is refused: {error}"]
            if self._at == before:
                return [*found, f"a watch from revision {before} tells nothing, and the log is at {self._store.revision}"]
        return found

    def _read(self, found: list[str]) -> None:
        for batch in self._store.watch("", self._at).take()[:RESUMED_AFTER]:
            found += self._take(batch)

    def _take(self, batch: Batch) -> Iterator[str]:
        if batch.revision <= self._at:
            yield f"a watch tells revision {batch.revision} after {self._at}"
        self._at = batch.revision
        for change in batch.changes:
            key, known = change.key, self.entries.get(change.key)
            before = change.previous.revision if change.previous else 0
            if before != (known.revision if known else 0):
                yield f"a watch has a gap: {key} was at {before} before revision {batch.revision}, and at {known.revision if known else 0} as far as told"
            self.changed[key] = batch.revision
            if change.deleted:
                self.entries.pop(key, None)
            else:
                self.entries[key] = change.entry


def differences(store: LogStore, reader: LogReader) -> Iterator[str]:
    """Yield what the reader believes and the store does not hold, and the other way round."""
    stored = {entry.key: entry for entry in store.range("").entries}
    for key in sorted(stored.keys() | reader.entries.keys()):
        one, other = stored.get(key), reader.entries.get(key)
        if (one and (one.revision, one.value)) != (other and (other.revision, other.value)):
            yield f"watchers know {key} at {other.revision if other else 'no'} revision, and it stands at {one.revision if one else 'none'}"
