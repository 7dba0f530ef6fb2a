"""Keeps the API's picture of one pod the same as the machine's: a status is built from what is there now, and sent only if it differs.

It runs beside the pod's worker, so that an API that is away delays no restart.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import Any, Callable, Dict, Optional

from . import status
from .client import Api, Delays, Refused
from .http import Unreachable
from .titles import pod_path
from .wakeup import Wakeup

Object = Dict[str, Any]


class Reporter:
    """`build` makes the status from the machine as it is; `pod` the API's object as last seen, None while the API has not spoken; `learned` takes its answers."""

    def __init__(
        self,
        api: Api,
        pod: Callable[[], Optional[Object]],
        build: Callable[[], Object],
        learned: Callable[[Object], None],
        say: Callable[[str], None],
    ) -> None:
        self._api, self._pod, self._build, self._learned, self._say = api, pod, build, learned, say
        self.wakeup = Wakeup()
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        delays = Delays()
        while True:
            await self.wakeup.woken()
            try:
                await self.now()
                delays.reset()
            except Unreachable:
                self.wakeup.pending = True
                await asyncio.sleep(delays.next())
            except Refused as error:
                if error.code in (404, 409):
                    continue  # it is gone, or another pod has its name: the watch will say
                await self._later(f"status of a pod: {error}", delays)
            except Exception:  # a mistake of ours must not end all reports of this pod
                await self._later(traceback.format_exc(), delays)

    async def _later(self, why: str, delays: Delays) -> None:
        self._say(why)
        self.wakeup.pending = True
        await asyncio.sleep(delays.next())

    async def now(self, last: Optional[Object] = None) -> None:
        """Report what is, or `last`. Raises Unreachable, Refused."""
        async with self._lock:
            pod = self._pod()
            if pod is None:
                return
            before = pod.get("status") or {}
            wanted = last or self._build()
            if not status.differs(before, wanted):
                return
            for part in ("podIPs", "hostIPs"):  # replaced, as they would be merged by address otherwise, and the old one would stay
                if before.get(part) and part in wanted and before[part] != wanted[part]:
                    wanted = {**wanted, part: [{"$patch": "replace"}, *wanted[part]]}
            answer = await self._api.patch(pod_path(pod) + "/status", {"metadata": {"uid": pod["metadata"]["uid"]}, "status": wanted})
            self._learned(answer)

    async def sent_soon(self) -> None:
        """Let `run` send a report before the caller goes on. The answer is not waited for."""
        self.wakeup.wake()
        await asyncio.sleep(0)

    def later(self, delay_s: float) -> None:
        asyncio.get_running_loop().call_later(delay_s, self.wakeup.wake)
