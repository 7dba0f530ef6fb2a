"""The recorder: tells people, in Events, what a component did and why. Repeats are counted on the Event that is there already.

`record` never waits and never fails its caller: Events are written behind, lazily, from a bounded queue.
"""

from __future__ import annotations

from typing import Any

from labctl.clock import Clock
from labctl.resources.client import Client


class Recorder:
    """One per component (`scheduler`, `replication-controller`, ...)."""

    def __init__(self, client: Client, component: str, clock: Clock, host: str = "") -> None:
        self._client = client
        self._component = component
        self._clock = clock
        self._host = host

    def record(self, about: Any, type_: str, reason: str, message: str) -> None:
        """`about` is a typed view or an ObjectReference; `type_` Normal or Warning."""
        raise NotImplementedError

    async def flush(self) -> None:
        """Wait until everything recorded so far is written."""

    async def close(self) -> None:
        """Write what is waiting, then stop."""
