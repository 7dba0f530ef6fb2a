"""A pod's volumes, from the worker's side: set up before its containers start, and renewed beside them until the pod ends."""

from __future__ import annotations

import asyncio
from typing import Any, Awaitable, Callable, Dict, Optional

from . import imagevolumes, volumes
from .client import Refused
from .environment import PodFacts
from .events import of_pod
from .http import Unreachable
from .titles import pod_title
from .tools import Tools

Object = Dict[str, Any]
RETRY_S = 2.0


class Mounting:
    """Of one pod. `pod` answers what the API says now; `image` fetches that of a volume; `look_again` is asked for a later look."""

    def __init__(self, tools: Tools, pod: Callable[[], Object], image: imagevolumes.Fetched, look_again: Callable[[float], None]) -> None:
        self._tools, self._pod, self._image, self._look_again = tools, pod, image, look_again
        self._folder = tools.pod_dir(pod()["metadata"]["uid"])
        self._renewal = Renewal()
        self.paths: Optional[Dict[str, str]] = None  # by volume, once all are there

    async def done(self, facts: PodFacts) -> bool:
        """Set up what is missing. Return False if something still is: it is told why, and tried again."""
        if self.paths is not None:
            return True
        pod = self._pod()
        try:
            if not await imagevolumes.mounted(pod, self._folder, self._image):
                return False  # the pull that it waits for wakes the worker
            self.paths = await volumes.prepare(pod, self._folder, facts, self._tools.sources)
            return True
        except volumes.VolumeFailure as failure:
            message = f'MountVolume.SetUp failed for volume "{failure.volume}" : {failure}'
            self._tools.events.record(of_pod(pod), "Warning", "FailedMount", message)
        except (Refused, Unreachable) as error:
            self._tools.say(f"volumes of {pod_title(pod)}: {error}")
        self._look_again(RETRY_S)
        return False

    async def renew(self, facts: Callable[[], PodFacts]) -> None:
        """Called now and then: later versions of ConfigMaps and Secrets."""
        if self.paths and volumes.needs_api(self._pod()):
            await self._renewal.run(lambda: volumes.renew(self._pod(), self._folder, facts(), self._tools.sources))

    async def end(self) -> None:
        """The pod ends: nothing is renewed any more, and what was begun has stopped on return."""
        await self._renewal.end()


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
        self._ended = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
