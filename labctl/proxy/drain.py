"""Leaving in order: a terminating pod gets the condition `Drained` when every minion sends new connections to the other endpoints.
Its agent waits for that, but not for long. Where no other endpoint is ready, minions go on sending to it until it ends (KEP-1669).

Who calls it: the Proxy, when a pod changes and when a minion has caught up. What flows: one patch of the pod's status, once.
A minion that is fenced is not waited for, nor one that is silent (its Node is not Ready) and not connected: it sends nothing that could arrive. One whose
connection alone was lost sends as before, and is waited for: it is connected again within moments, and the agent does not wait for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from labctl.clock import Clock, rfc3339
from labctl.errors import ApiError, Conflict, LabctlError
from labctl.journal import Journal
from labctl.proxy.settings import ProxySettings
from labctl.resources.kinds.shared import condition_status

DRAINED = "labctl.internal/Drained"


class StatusWriter(Protocol):
    """The part of resources' in-process Client that this room needs."""

    def raw(self, resource: str, key: str) -> dict[str, Any] | None: ...
    async def patch(self, resource: str, key: str, patch: dict[str, Any], subresource: str = "", revision: int = 0) -> Any: ...


class Drain:
    """`serves(pod)`: is it in the table? `reached()`: the sequence of the table that every minion has at least that sends."""

    def __init__(
        self,
        client: StatusWriter,
        journal: Journal,
        clock: Clock,
        settings: ProxySettings,
        serves: Callable[[str], bool],
        reached: Callable[[], int],
    ) -> None:
        self._client = client
        self._journal = journal
        self._clock = clock
        self._settings = settings
        self._serves = serves
        self._reached = reached
        self._leaving: dict[str, int] = {}  # pod -> the sequence of the table that first was without it; 0: it is still in
        self._tasks: set[asyncio.Task[None]] = set()

    def pod(self, key: str, pod: Any) -> bool:
        """Take in a change of a pod. Return True if the pod must be followed from now on."""
        if pod is None or not pod.metadata.deletion_timestamp or condition_status(pod.status.conditions, DRAINED) == "True":
            self._leaving.pop(key, None)
            return False
        return self._leaving.setdefault(key, 0) == 0

    def look(self, sequence: int) -> None:
        """Look again, because the table is settled at `sequence`, or a minion has reached it."""
        if not self._leaving:
            return
        reached = self._reached()
        for key, since in list(self._leaving.items()):
            if self._serves(key):
                continue
            if not since:
                since = self._leaving[key] = sequence
            if reached >= since:
                del self._leaving[key]
                self._tell(key)

    async def stop(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _tell(self, key: str) -> None:
        task = asyncio.get_running_loop().create_task(self._write(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, key: str) -> None:
        """At the revision that was read, because conditions are a list and a merge patch replaces it whole."""
        for _ in range(self._settings.drain_patch_retries):
            pod = self._client.raw("pods", key)
            if pod is None:
                return
            try:
                written = await self._client.patch("pods", key, self._patch(pod), "status", int(pod["metadata"]["resourceVersion"]))
            except Conflict:
                continue
            except LabctlError as error:
                if isinstance(error, ApiError) and error.reason == "Conflict":
                    continue
                return  # it is gone, or nothing can be written now: the agent does not wait for ever
            self._journal.note("proxy", f"pods/{key}", "no minion sends it anything new: it may stop", rev=written.metadata.revision)
            return

    def _patch(self, pod: dict[str, Any]) -> dict[str, Any]:
        conditions = [c for c in pod.get("status", {}).get("conditions", ()) if c.get("type") != DRAINED]
        now = rfc3339(self._clock.wall())
        said = "no reachable minion sends it new connections while another endpoint is ready"
        told = {"type": DRAINED, "status": "True", "lastTransitionTime": now, "reason": "NoMinionSends", "message": said}
        return {"status": {"conditions": [*conditions, told]}}
