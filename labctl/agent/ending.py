"""The last steps of a pod on this node: its containers stop in order, its end is reported, and the API forgets the pod.

Used by the pod's worker, which says when each of them is due.
"""

from __future__ import annotations

import asyncio
from typing import Any, Awaitable, Callable, Dict

from . import stopping
from .client import Delays, Refused
from .http import Unreachable
from .reporter import Reporter
from .runtime.interface import Pod
from .status import differs, is_sidecar, pod_address
from .titles import pod_path, pod_title
from .tools import Tools
from .wakeup import Wakeup

Object = Dict[str, Any]


class Ending:
    """Of one pod. `pod` answers what the API says now, `gone` whether it has no such pod any more."""

    def __init__(self, tools: Tools, pod: Callable[[], Object], reporter: Reporter, wakeup: Wakeup, gone: Callable[[], bool]) -> None:
        self._tools, self._pod, self._reporter, self._wakeup, self._gone = tools, pod, reporter, wakeup, gone

    async def stop_all(self, found: Pod, deadline: stopping.Deadline) -> None:
        """Stop what runs: all containers at once, sidecars when the others have ended, last first."""
        sidecars = [each["name"] for each in self._pod()["spec"].get("initContainers") or () if is_sidecar(each)]
        address = pod_address(found, self._tools.host_ip)
        await stopping.stop_all(self._tools, self._pod, list(found.running()), deadline, self._wakeup, address, sidecars)

    async def report(self, last: Object) -> None:
        """Report the last status, if the API has another one of a pod that was reported, or that somebody keeps to see its end."""
        status, kept = self._pod().get("status") or {}, self._pod()["metadata"].get("finalizers")
        if not self._gone() and (kept or status.get("containerStatuses")) and differs(status, last):
            await self._until_answered(lambda: self._reporter.now(last))

    async def delete(self) -> None:
        """Let the API forget the pod: it is this one, and nothing of it is left here."""
        uid = self._pod()["metadata"]["uid"]
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        await self._until_answered(lambda: self._tools.api.delete(pod_path(self._pod()), options))

    async def _until_answered(self, call: Callable[[], Awaitable[Any]]) -> None:
        """Try until the API accepted it, or has no such pod any more."""
        delays = Delays()
        while not self._gone():
            try:
                await call()
                return
            except Unreachable:
                pass
            except Refused as error:
                if error.code in (404, 409):
                    return
                self._tools.say(f"ending of {pod_title(self._pod())}: {error}")
            await asyncio.sleep(delays.next())
