"""Ends pods that take more of the machine's disk than they may, or than the machine can spare, as the kubelet's eviction manager does.

A pod goes when an emptyDir volume of its has outgrown its `sizeLimit`. When the machine itself runs out of disk (the condition DiskPressure), one pod at a time
goes whose end would help: of those with the lowest priority the one that uses most. A disk that others have filled ends no pod that uses little.
Memory is the kernel's to free: it kills who takes too much. But a volume in memory stays when its container is killed, and holds what others need. So when
the machine is short of memory (MemoryPressure), the pod goes whose volumes in memory would free enough.
What a pod uses is measured by du, a process of its own, however many files there are; what takes too long is measured again later.
"""

from __future__ import annotations

import asyncio
import glob
import os
import time
from typing import Any, Awaitable, Callable, Dict, Iterable, List, Optional, Protocol, Sequence, Tuple

from . import node, processes, quantities
from .settings import Settings
from .titles import pod_title

Object = Dict[str, Any]
Measure = Callable[[Sequence[str], bool], Awaitable[Optional[int]]]
"""(folders, whether inodes are counted instead of bytes) -> what they use on their disk; None: it could not be found out."""
MEASURE_S = 60.0
_PAUSE, _MOST_PAUSE_S = 10, 60.0
"""Between two looks pass so many times the seconds that the first one took, at most so many seconds."""
_DU = 'exec du "$@" 2>/dev/null'


class Evictable(Protocol):
    """What is asked of a pod's worker."""

    pod: Object

    @property
    def admitted(self) -> bool: ...
    def evict(self, message: str) -> None: ...


async def measured(folders: Sequence[str], inodes: bool) -> Optional[int]:
    """Measure with du. Other file systems below the folders are left out."""
    if not folders:
        return 0
    unit = "--inodes" if inodes else "--block-size=1"
    done = await processes.run(["sh", "-c", _DU, "sh", "-sxc", unit, "--", *folders], timeout_s=MEASURE_S)
    total = done.output.decode(errors="replace").rstrip("\n").rpartition("\n")[2].split("\t")
    return int(total[0]) if done.status is not None and total[0].isdigit() else None


class Evictions:
    """`pods` are the workers of this machine's pods."""

    def __init__(
        self,
        settings: Settings,
        pods: Callable[[], Iterable[Evictable]],
        say: Callable[[str], None],
        measure: Measure = measured,
        missing: Callable[[Settings], Tuple[int, int]] = node.disk_missing,
        memory_missing: Callable[[], int] = node.memory_missing,
    ) -> None:
        self._settings, self._pods, self._say, self._measure = settings, pods, say, measure
        self._missing, self._memory_missing = missing, memory_missing

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            began_s = time.monotonic()
            await self.look()
            pause_s = min(_MOST_PAUSE_S, _PAUSE * (time.monotonic() - began_s))
            await asyncio.sleep(max(self._settings.housekeeping_s, pause_s))

    async def look(self) -> None:
        self._relieve_memory()
        await self._relieve_disk()
        for worker in self._admitted():
            await self._within_limits(worker)

    def _admitted(self) -> List[Evictable]:
        return [each for each in self._pods() if each.admitted]

    async def _within_limits(self, worker: Evictable) -> None:
        for name, limit in _limited(worker.pod):
            used = await self._measure(self._there(worker.pod, os.path.join("volumes", name)), False)
            if used is not None and used > quantities.whole(limit):
                worker.evict(f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}". ')
                return

    def _relieve_memory(self) -> None:
        missing = self._memory_missing()
        if missing:
            self._evict_one([(each, self._in_memory(each.pod)) for each in self._admitted()], missing, "memory")

    async def _relieve_disk(self) -> None:
        """Evict one pod if the disk, or its inodes, are nearly used up."""
        for what, missing in zip(("ephemeral-storage", "inodes"), self._missing(self._settings)):  # noqa: B905 - Python 3.9
            if missing:
                found = [(each, await self._measure(self._own(each.pod), what == "inodes")) for each in self._admitted()]
                self._evict_one(found, missing, what)
                return

    def _evict_one(self, found: Sequence[Tuple[Evictable, Optional[int]]], missing: int, what: str) -> None:
        """Evict the pod that matters least of those that use as much as is missing; of equals the one that uses most."""
        helping = [(each.pod["spec"].get("priority") or 0, -used, each) for each, used in found if used and used >= missing]
        if helping:
            _, used, worker = min(helping, key=lambda each: each[:2])
            self._say(f"evicting {pod_title(worker.pod)}: the machine is short of {what}, of which it uses {-used}")
            worker.evict(f"The node was low on resource: {what}. The pod was using {-used}. ")

    def _in_memory(self, pod: Object) -> int:
        """Return the bytes of a pod's volumes in memory."""
        used = 0
        for volume in pod["spec"].get("volumes") or ():
            for folder in self._there(pod, os.path.join("volumes", volume["name"])) if _is_in_memory(volume) else ():
                if os.path.ismount(folder):
                    found = os.statvfs(folder)
                    used += (found.f_blocks - found.f_bfree) * found.f_frsize
        return used

    def _own(self, pod: Object) -> List[str]:
        """Return the folders that a pod fills: what its containers wrote, and its emptyDir volumes that are not in memory."""
        names = [each["name"] for each in pod["spec"].get("volumes") or () if _is_on_disk(each)]
        return self._there(pod, "containers/*/*/upper", "etc", "messages", *(os.path.join("volumes", name) for name in names))

    def _there(self, pod: Object, *below: str) -> List[str]:
        folder = os.path.join(self._settings.state_dir, "pods", pod["metadata"]["uid"])
        return [each for path in below for each in glob.glob(os.path.join(glob.escape(folder), path)) if os.path.isdir(each)]


def _limited(pod: Object) -> List[Tuple[str, str]]:
    """Return the volumes of a pod that have a size limit on the disk, each with it. One in memory can't outgrow its own."""
    return [
        (each["name"], each["emptyDir"]["sizeLimit"])
        for each in pod["spec"].get("volumes") or ()
        if _is_on_disk(each) and quantities.whole((each.get("emptyDir") or {}).get("sizeLimit"))
    ]


def _is_on_disk(volume: Object) -> bool:
    return (volume.get("emptyDir") is not None or len(volume) == 1) and not _is_in_memory(volume)


def _is_in_memory(volume: Object) -> bool:
    return (volume.get("emptyDir") or {}).get("medium") == "Memory"
