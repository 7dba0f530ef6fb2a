"""Safety: nothing that was acknowledged is lost. What a person was told to be written stands in the log, and is there when the log is opened again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from labctl.store.log import LogStore
from labctl.store.settings import StoreSettings

if TYPE_CHECKING:
    from labctl.sim.checkers.watch import LogReader
    from labctl.store.memory import MemoryEngine


class Acknowledged:
    """The writes that were acknowledged to people: of each object the last one."""

    def __init__(self) -> None:
        self._revisions: dict[str, int] = {}

    def note(self, resource: str, written: Any) -> None:
        """Note the answer to a write."""
        if written is not None and written.metadata.revision:
            key = f"{resource}/{written.metadata.key}"
            self._revisions[key] = max(self._revisions.get(key, 0), written.metadata.revision)

    def missing(self, reader: LogReader) -> Iterator[str]:
        """Yield each object whose log does not hold what was acknowledged."""
        for key, revision in sorted(self._revisions.items()):
            last = reader.changed.get(key, 0)
            if last < revision:
                yield f"revision {revision} of {key} was acknowledged, and the log has it at {last}"


def not_durable(store: LogStore, engine: MemoryEngine) -> Iterator[str]:
    """Yield what is visible now and would be lost by a restart."""
    after = {entry.key: entry for entry in LogStore(engine, StoreSettings()).range("").entries}
    for entry in store.range("").entries:
        kept = after.get(entry.key)
        if kept is None or kept.revision < entry.revision:
            yield f"{entry.key} stands at revision {entry.revision}, and at {kept.revision if kept else 'none'} after a restart"
