"""Burns CPU or memory inside a container's control group, as a program of the container that runs wild would.

The container's limits hold for it, and what it takes is missing for the container. It ends when the fault is healed, when its time is over, or when the
container ends. If the container's memory limit is crossed, the kernel ends the container: its first process is made the one to choose.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
import time
from typing import Any, Callable, Dict, List, Sequence, Tuple

from .. import linux
from ..cgroups import MOUNT, Cgroups, machine_limits
from ..runtime.interface import Container
from . import containers, keeper
from .request import Request

CPUS_MAX = 64.0
MEMORY_BYTES_MAX = float(64 << 30)
PERCENT_MAX = 1000.0
UNLIMITED = 1 << 60
SLICE_S = 0.05
CHUNK_BYTES = 4 << 20
KILL_ME_FIRST = "1000"  # the largest oom_score_adj: it counts as much as the whole limit
TAKERS = 4  # so that each of them counts less than that, when the kernel compares them with the container's first process


# -- CPU


def look_cpu(asked: Request) -> str:
    asked.number("cpus", 0.01, CPUS_MAX)
    return containers.look(asked)


def cpu(asked: Request) -> Sequence[str]:
    cpus = asked.number("cpus", 0.01, CPUS_MAX)
    container = _container(asked)
    shares = [1.0] * int(cpus) + ([cpus % 1] if cpus % 1 else [])

    def work(ready: keeper.Ready) -> None:
        _burn(asked, container, [lambda share=share: _spin(share) for share in shares], ready)  # type: ignore[misc]

    _begin_once(asked, {}, work)
    return [f"{len(shares)} processes burn {cpus:g} CPUs in the control group of container {container.name}"]


def _spin(share: float) -> None:
    """Use this share of one CPU for ever."""
    while True:
        until = time.monotonic() + SLICE_S * share
        while time.monotonic() < until:
            pass
        if share < 1.0:
            time.sleep(SLICE_S * (1 - share))


# -- memory


def look_memory(asked: Request) -> str:
    container = containers.running(asked)
    if container is None:
        return containers.look(asked)
    size, limit = _size(asked, container)
    if size == 0:
        return f"container {container.name} has no memory limit of which a share could be burnt; say a size, as 100Mi"
    most = _machine_memory()
    if not limit and size > most:
        return f"container {container.name} has no memory limit, and the machine has {most >> 20} MiB only"
    return ""


def memory(asked: Request) -> Sequence[str]:
    container = _container(asked)
    size, limit = _size(asked, container)
    adjustment = _read_int(f"/proc/{container.pid}/oom_score_adj")
    kept = {"pid_first": container.pid, "ticks_first": linux.start_ticks(container.pid), "adjustment": adjustment}

    def work(ready: keeper.Ready) -> None:
        with contextlib.suppress(OSError):  # it has just ended, which _burn sees
            _write(f"/proc/{container.pid}/oom_score_adj", KILL_ME_FIRST)
        _burn(asked, container, [lambda: _fill(size // TAKERS)] * TAKERS, ready)

    _begin_once(asked, kept, work)
    of = f" of its limit of {limit >> 20} MiB" if limit else ""
    return [f"{TAKERS} processes take {size >> 20} MiB{of} in the control group of container {container.name}"]


def _fill(size: int) -> None:
    """Take the memory chunk by chunk, every page of it written, and keep it."""
    taken = []
    while size > 0:
        chunk = mmap.mmap(-1, min(CHUNK_BYTES, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for page in range(0, len(chunk), mmap.PAGESIZE):
            chunk[page] = 1
        taken.append(chunk)
        size -= len(chunk)
    while True:
        signal.pause()


def _size(asked: Request, container: Container) -> Tuple[int, int]:
    """Return (bytes to take, the container's limit). Bytes are 0 if a share of a missing limit was asked for; the limit is 0 if there is none."""
    limit = _limit(asked, container)
    if "percent" in asked.parameters:
        return int(limit * asked.number("percent", 1, PERCENT_MAX) / 100), limit
    return int(asked.number("bytes", 1 << 20, MEMORY_BYTES_MAX)), limit


def _limit(asked: Request, container: Container) -> int:
    path = containers.cgroup(asked, container)
    both = (path, os.path.dirname(path))  # the container's own and its pod's
    v2 = Cgroups().v2
    files = [f"{MOUNT}{each}/memory.max" if v2 else f"{MOUNT}/memory{each}/memory.limit_in_bytes" for each in both]
    return min((limit for limit in map(_read_int, files) if 0 < limit < UNLIMITED), default=0)


def _machine_memory() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        total = next(int(line.split()[1]) << 10 for line in file if line.startswith("MemTotal:"))
    return int(min(machine_limits().get("memory", total), total))


# -- both


def heal(asked: Request) -> Sequence[str]:
    there = keeper.end(asked.fault, undo)
    return ["the processes that burnt were ended"] if there else ["nothing burnt any more"]


def undo(found: Dict[str, Any]) -> None:
    """Make the kernel's OOM killer as likely as before to choose the container's first process."""
    first = found.get("pid_first", 0)
    if first and linux.start_ticks(first) == found["ticks_first"]:
        with contextlib.suppress(OSError):
            _write(f"/proc/{first}/oom_score_adj", str(found["adjustment"]))


def _begin_once(asked: Request, kept: Dict[str, Any], work: Any) -> None:
    found = keeper.record(asked.fault)
    if found and keeper.alive(found):
        return
    keeper.end(asked.fault, undo)  # what a process that was killed left behind
    keeper.begin(asked.fault, kept, work, undo)


def _container(asked: Request) -> Container:
    container = containers.running(asked)
    if container is None:
        raise OSError(f"container {asked.name('container')} does not run any more")
    return container


def _groups(asked: Request, container: Container) -> List[str]:
    """Return the cgroup.procs files of the container's group, one for each hierarchy in which it has one."""
    folders = Cgroups(asked.settings.cgroup_root).folders(containers.cgroup(asked, container))
    return [os.path.join(each, "cgroup.procs") for each in folders if os.path.isdir(each)]


def _burn(asked: Request, container: Container, works: Sequence[Callable[[], None]], ready: keeper.Ready) -> None:
    """Let a worker do each of these in the container's group until the container, every worker or the time has ended. No worker is left then.

    The container may end before all workers have begun, as one does whose memory the first of them took: that is the end of the burn like any other.
    """
    first = _first_process(asked, container)
    workers: List[int] = []
    try:
        for work in works:
            workers.append(keeper.worker(_groups(asked, container), work))
        ready()
        _watch(first, workers, asked.for_s)
    except OSError:
        if not (workers and _ended(first)):
            raise
        ready()
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGKILL)  # not reaped yet, so the number is still this worker's
            os.waitpid(pid, 0)


def _first_process(asked: Request, container: Container) -> int:
    """Return a descriptor of the container's first process. Raises OSError if it has ended, also if its number is another process's by now."""
    gone = OSError(f"container {container.name} does not run any more")
    try:
        first = os.pidfd_open(container.pid)
    except ProcessLookupError:
        raise gone from None
    found = containers.running(asked)
    if found is None or found.id != container.id or _ended(first):
        raise gone
    return first


def _ended(process: int) -> bool:
    return bool(select.select([process], [], [], 0)[0])


def _watch(first: int, workers: List[int], for_s: float) -> None:
    """Return when the container's first process, every worker or the time has ended."""
    watched = {os.pidfd_open(pid) for pid in workers}
    until = time.monotonic() + for_s if for_s else None
    while watched:
        left_s = None if until is None else max(0.0, until - time.monotonic())
        ended = select.select([first, *watched], [], [], left_s)[0]
        if not ended or first in ended:
            return
        watched -= set(ended)


def _read_int(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
