"""Conditions that the proxy writes into a pod's status: one patch for each, at the revision that was read, and again until it is there or not needed.

Drain and Isolation call it. Conditions are a list, and a merge patch replaces it whole: so a write upon another revision would lose what others wrote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from labctl.errors import ApiError, LabctlError
from labctl.journal import Journal
from labctl.proxy.settings import ProxySettings
from labctl.resources.conditions import with_condition
from labctl.resources.kind import Object
from labctl.supervisor import Supervisor

Change = Callable[[Object], Object | None]
"""Takes a pod as JSON, and returns the condition that it shall have; None: none any more."""


class StatusWriter(Protocol):
    """The part of resources' in-process Client that this room needs."""

    def raw(self, resource: str, key: str) -> dict[str, Any] | None: ...
    async def patch(self, resource: str, key: str, patch: dict[str, Any], subresource: str = "", revision: int = 0) -> Any: ...


class Conditions:
    def __init__(self, client: StatusWriter, journal: Journal, settings: ProxySettings, supervisor: Supervisor) -> None:
        self._client = client
        self._journal = journal
        self._settings = settings
        self._supervisor = supervisor
        self._tasks: set[asyncio.Task[None]] = set()

    def tell(self, key: str, change: Change, said: str) -> None:
        """Write what `change` says of a pod. `said` goes into the journal."""
        task = asyncio.get_running_loop().create_task(self._write(key, change, said))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _write(self, key: str, change: Change, said: str) -> None:
        delay_s = self._settings.again_s
        try:
            while (pod := self._client.raw("pods", key)) is not None and (told := change(pod)) is not None:
                conditions = with_condition(pod.get("status", {}).get("conditions", ()), told)
                revision = int(pod["metadata"]["resourceVersion"])
                try:
                    written = await self._client.patch("pods", key, {"status": {"conditions": conditions}}, "status", revision)
                except LabctlError as error:
                    if isinstance(error, ApiError) and error.code == 404:
                        return
                    await asyncio.sleep(delay_s)  # another write came first, or the disk refuses
                    delay_s = min(delay_s * 2, self._settings.again_most_s)
                    continue
                self._journal.note("proxy", f"pods/{key}", said, rev=written.metadata.revision)
                return
        except Exception as error:  # our mistake about one pod; the others are told all the same
            self._supervisor.mistake("proxy", error)
