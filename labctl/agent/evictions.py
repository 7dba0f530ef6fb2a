"""Ends pods that take more of the machine's disk than they may, or than the machine can spare, as the kubelet's eviction manager does.

A pod goes when an emptyDir volume of its has outgrown its `sizeLimit`, or when what it wrote, with its logs, is more than its containers' limits of
ephemeral storage. Critical pods stay. When the machine itself runs out of disk (the condition DiskPressure), one pod at a time
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
from .status import is_sidecar
from .titles import log_folder, pod_title

Object = Dict[str, Any]
Measure = Callable[[Sequence[str], bool], Awaitable[Optional[int]]]
"""(folders, whether inodes are counted instead of bytes) -> what they use on their disk; None: it could not be found out."""
MEASURE_S = 60.0
CRITICAL_PRIORITY = 2_000_000_000
"""Pods of this priority, and above, are never evicted by their machine."""
_PAUSE, _MOST_PAUSE_S = 10, 60.0
"""Between two looks pass so many times the seconds that the first one took, at most so many seconds."""
_DU = 'exec du "$@" 2>/dev/null'


class Evictable(Protocol):
    """What is asked of a pod's worker."""

    pod: Object

    @property
    def admitted(self) -> bool: ...
    def evict(self, message: str, *, disrupted: bool = False) -> None: ...


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
        return [each for each in self._pods() if each.admitted and (each.pod["spec"].get("priority") or 0) < CRITICAL_PRIORITY]

    async def _within_limits(self, worker: Evictable) -> None:
        for name, limit in _limited(worker.pod):
            used = await self._measure(self._there(worker.pod, os.path.join("volumes", name)), False)
            if used is not None and used > quantities.whole(limit):
                worker.evict(f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}". ')
                return
        limits = storage_limits(worker.pod)
        if limits:
            await self._within_storage(worker, limits)

    async def _within_storage(self, worker: Evictable, limits: Dict[str, str]) -> None:
        """Look first at the whole pod, and at its containers only if it wrote more than the least of them may."""
        pod, used = worker.pod, await self._measure(self._own(worker.pod), False)
        if used is None:
            return
        whole = whole_limit(pod)
        if used > quantities.whole(whole):
            worker.evict(f"Pod ephemeral local storage usage exceeds the total limit of containers {whole}. ")
            return
        for name, limit in limits.items():
            if used > quantities.whole(limit):
                of_it = await self._measure(
                    [*self._there(pod, os.path.join("containers", name, "*", "upper")), *self._logs(pod, name)], False
                )
                if of_it is not None and of_it > quantities.whole(limit):
                    worker.evict(f'Container {name} exceeded its local ephemeral storage limit "{limit}". ')
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
            worker.evict(f"The node was low on resource: {what}. The pod was using {-used}. ", disrupted=True)

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
        """Return the folders that a pod fills: what its containers wrote and logged, and its emptyDir volumes that are not in memory."""
        names = [each["name"] for each in pod["spec"].get("volumes") or () if _is_on_disk(each)]
        written = self._there(pod, "containers/*/*/upper", "etc", "messages", *(os.path.join("volumes", name) for name in names))
        return [*written, *self._logs(pod)]

    def _logs(self, pod: Object, container: str = "") -> List[str]:
        """Return the folder of the pod's logs, or of one container's."""
        folder = os.path.join(self._settings.pod_logs_dir, log_folder(pod), container)
        return [folder] if os.path.isdir(folder) else []

    def _there(self, pod: Object, *below: str) -> List[str]:
        folder = os.path.join(self._settings.state_dir, "pods", pod["metadata"]["uid"])
        return [each for path in below for each in glob.glob(os.path.join(glob.escape(folder), path)) if os.path.isdir(each)]


def storage_limits(pod: Object) -> Dict[str, str]:
    """Return how much each container may write, if it has a limit."""
    found = ((each["name"], _storage_limit(each)) for each in pod["spec"]["containers"])
    return {name: limit for name, limit in found if quantities.whole(limit)}


def whole_limit(pod: Object) -> str:
    """Return how much a pod may write, as a quantity: the sum of its containers', or what an init container may before them if that is more."""
    inits = pod["spec"].get("initContainers") or ()
    together = [*pod["spec"]["containers"], *(each for each in inits if is_sidecar(each))]
    limits = [limit for limit in map(_storage_limit, together) if limit]
    alone = [limit for limit in (_storage_limit(each) for each in inits if not is_sidecar(each)) if limit]
    summed = limits[0] if len(limits) == 1 else quantities.summed(limits)
    return max([summed, *alone], key=quantities.whole)


def _storage_limit(container: Object) -> str:
    return str(((container.get("resources") or {}).get("limits") or {}).get("ephemeral-storage") or "")


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
