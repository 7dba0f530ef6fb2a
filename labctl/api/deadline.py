"""A request's own deadline (`?timeout=5s`): who asked for an answer within a time gets one, which may be that there is none yet.

Used by the server. A write that was begun goes on, as in Kubernetes: its client is told that it may still happen. What only reads is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from labctl.api import status

MOST_GOING_ON = 256
"""Writes that may go on without their clients at once. Where there are more, clients wait: they could begin any number else."""

Handling = Coroutine[Any, Any, web.StreamResponse]


class Deadlines:
    def __init__(self) -> None:
        self._going_on: set[asyncio.Task[web.StreamResponse]] = set()  # the loop alone holds tasks weakly

    async def answer(self, request: web.BaseRequest, handling: Handling, within_s: float, *, changes: bool) -> web.StreamResponse:
        """Returns the handler's answer. Raises 504 if it does not come within `within_s` seconds, unless a part of it was sent."""
        task = asyncio.ensure_future(handling)
        try:
            done, _ = await asyncio.wait({task}, timeout=within_s)
            if done or request.writer.output_size or (changes and len(self._going_on) >= MOST_GOING_ON):
                return await task
        except asyncio.CancelledError:
            task.cancel()
            raise
        if changes:
            self._going_on.add(task)
            task.add_done_callback(self._ended)
        else:
            task.cancel()
        raise status.too_late()

    def _ended(self, task: asyncio.Task[web.StreamResponse]) -> None:
        self._going_on.discard(task)
        if not task.cancelled():
            task.exception()  # nobody waits for it any more

    async def stop(self, within_s: float) -> None:
        """Waits for the writes that go on, and gives up those that take longer."""
        if self._going_on:
            _, late = await asyncio.wait(set(self._going_on), timeout=within_s)
            for task in late:
                task.cancel()
