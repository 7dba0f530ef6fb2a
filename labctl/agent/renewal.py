"""Renewing a pod's volumes beside its worker, until the pod ends."""

from __future__ import annotations

import asyncio
from typing import Any, Awaitable, Callable, Optional

from .client import Refused
from .http import Unreachable


class Renewal:
    """At most one at a time. One that still went on while the pod ends would write its folder anew, when the folder has just been removed."""

    def __init__(self) -> None:
        self._task: Optional["asyncio.Future[Any]"] = None
        self._ended = False

    async def run(self, renew: Callable[[], Awaitable[None]]) -> None:
        """Renew now, if the pod goes on. What the API refuses or can't answer keeps its old content."""
        if self._ended or (self._task is not None and not self._task.done()):
            return
        task = self._task = asyncio.ensure_future(renew())
        await asyncio.wait({task})
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, (Refused, Unreachable)):
            raise error

    async def end(self) -> None:
        """The pod ends: nothing is renewed any more, and what was begun has stopped on return."""
        self._ended = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
