"""Turns: a task that handles what a client sends lets others run in between, however much has come at once.

One read from a connection brings up to 256 KB, which are 40,000 empty messages of a WebSocket, or 20,000 pings of SPDY. A loop over them that never has to
wait keeps the event loop for a second, and everybody else with it.
"""

from __future__ import annotations

import asyncio

_AT_ONCE = 64


class Turns:
    """Counts what a task has handled since it last let others run."""

    def __init__(self) -> None:
        self._handled = 0

    async def handled(self) -> None:
        """Is awaited for each message or frame."""
        self._handled += 1
        if self._handled >= _AT_ONCE:
            self._handled = 0
            await asyncio.sleep(0)
