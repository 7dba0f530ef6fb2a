"""A watcher takes the batches of one watch from the log and keeps them until they are read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from labctl.errors import Lagging
from labctl.store.interface import Batch


class Watcher:
    """A watcher holds the batches that were delivered to one watch and not read yet. Their number is bounded: a reader that is too slow is closed."""

    def __init__(self, bound: int, forget: Callable[[Watcher], None]) -> None:
        self._bound = bound
        self._forget = forget
        self._waiting: deque[Batch] = deque()
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._listener: Callable[[], bool] | None = None
        self._told = False  # the listener is about to be called

    @property
    def idle(self) -> bool:
        """True if nothing waits to be read: the reader has then seen everything up to the store's revision."""
        return not self._waiting

    def deliver(self, batch: Batch, *, bounded: bool = True) -> None:
        if bounded and len(self._waiting) >= self._bound:
            self._waiting.clear()
            self.fail(Lagging(f"a watcher fell {self._bound} revisions behind"))
            return
        self._waiting.append(batch)
        if self._listener is None or self._waiter is None:
            self._notify()
        elif not self._told:
            self._told = True
            self._waiter.get_loop().call_soon(self._tell)

    def listen(self, listener: Callable[[], bool]) -> None:
        self._listener = listener

    def _tell(self) -> None:
        """Offers what waits to the listener. A reader that does not wait at the moment takes it itself."""
        self._told = False
        if self._listener is None or self._waiter is None or self._waiter.done() or not self._waiting:
            return
        try:
            if not self._listener():
                self._notify()
        except Exception as error:
            self._waiting.clear()  # it may have lost some: nothing may follow a gap
            self.fail(error)

    def fail(self, error: Exception) -> None:
        self._error = error
        self._forget(self)
        self._notify()

    def _notify(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> Watcher:
        return self

    async def __anext__(self) -> Batch:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._waiting.popleft()

    def take(self) -> list[Batch]:
        """Returns every batch that waits to be read, and never blocks."""
        if isinstance(self._error, Lagging):
            raise self._error
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    async def aclose(self) -> None:
        self._closed = True
        self._listener = None
        self._forget(self)
        self._notify()


def under(batch: Batch, prefix: str) -> Batch | None:
    """Returns the part of a batch whose keys start with the prefix: the batch itself if that is all of it, None if it is nothing."""
    if not prefix:
        return batch
    changes = batch.changes
    if len(changes) == 1:
        return batch if changes[0].entry.key.startswith(prefix) else None
    part = tuple(change for change in changes if change.entry.key.startswith(prefix))
    if len(part) == len(changes):
        return batch
    return Batch(batch.revision, part) if part else None
