"""Whether this machine can give pods users of their own (`hostUsers: false`): tried once, beside what the agent does for its start, because it takes some 30 ms."""

from __future__ import annotations

import asyncio
from typing import Callable, Optional


class OwnUsers:
    """`known` is None until it was tried. `possible` blocks, and runs in a thread."""

    def __init__(self, possible: Callable[[], bool] = lambda: False) -> None:
        self._possible = possible
        self._trying: "asyncio.Future[bool] | None" = None
        self.known: Optional[bool] = None

    async def found(self) -> bool:
        """Try it, unless that was begun before, and return the result."""
        if self._trying is None:
            self._trying = asyncio.get_running_loop().run_in_executor(None, self._possible)
        self.known = await asyncio.shield(self._trying)
        return self.known
