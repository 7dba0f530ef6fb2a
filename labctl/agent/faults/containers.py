"""Kills a container, or stops all of its processes. Nothing of it needs a process or a file that stays."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import List, Optional, Sequence

from ..cgroups import Cgroups
from ..runtime.interface import Container, State
from ..runtime.records import Records
from .request import Request

STOP_S = 5.0  # how long processes that keep starting others are followed


def nothing(_asked: Request) -> List[str]:
    """There is nothing to heal."""
    return []


def running(asked: Request) -> Optional[Container]:
    """Return the container of this name that runs in the pod, or None if there is none or the request means another one."""
    uid, name, identity = asked.uid(), asked.name("container"), asked.container_id()
    found = [each for each in Records(asked.settings.state_dir).pod(uid).containers if each.name == name and identity in ("", each.id)]
    alive = [each for each in found if each.state is State.RUNNING and each.pid]
    return alive[-1] if alive else None


def cgroup(asked: Request, container: Container) -> str:
    return f"{Cgroups(asked.settings.cgroup_root).pod(container.pod_uid)}/{container.name}-{container.attempt}"


def processes(asked: Request, container: Container) -> List[int]:
    return Cgroups(asked.settings.cgroup_root).processes(cgroup(asked, container))


def look(asked: Request) -> str:
    return "" if running(asked) else f"container {asked.name('container')} does not run"


def kill(asked: Request) -> Sequence[str]:
    """Send SIGKILL to the container's first process. The kernel then ends all others of its process namespace.

    Containers that share their pod's namespace don't end that way, so the processes that are left in the container's group are killed too.
    """
    ended = [f"container {asked.name('container')} had ended already"]
    container = running(asked)
    if container is None:
        return ended
    try:
        descriptor = os.pidfd_open(container.pid)  # so that a pid which was given to another process is never hit
    except ProcessLookupError:
        return ended
    try:
        if running(asked) is None:
            return ended
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        return ended
    finally:
        os.close(descriptor)
    for pid in processes(asked, container):
        _send(pid, signal.SIGKILL)
    return [f"sent SIGKILL to process {container.pid}, the first of container {container.name}"]


def stop(asked: Request) -> Sequence[str]:
    """Send SIGSTOP to every process of the container until none runs, because one that was missed may have started another."""
    container = running(asked)
    if container is None:
        raise OSError(f"container {asked.name('container')} does not run any more")
    until = time.monotonic() + STOP_S
    while True:
        left = [pid for pid in processes(asked, container) if not _stopped(pid)]
        for pid in left:
            _send(pid, signal.SIGSTOP)
        if not left:
            count = len(processes(asked, container))
            return [f"stopped all {count} processes of container {container.name} by SIGSTOP"]
        if time.monotonic() > until:
            raise OSError(f"container {container.name} starts processes faster than they can be stopped")
        time.sleep(0.002)


def resume(asked: Request) -> Sequence[str]:
    """Send SIGCONT to every stopped process of the container, whichever attempt it is."""
    done = []
    for container in Records(asked.settings.state_dir).pod(asked.uid()).containers:
        if container.name == asked.name("container"):
            stopped = [pid for pid in processes(asked, container) if _stopped(pid)]
            for pid in stopped:
                _send(pid, signal.SIGCONT)
            if stopped:
                done.append(f"resumed {len(stopped)} processes of container {container.name} by SIGCONT")
    return done or [f"no process of container {asked.name('container')} was stopped any more"]


def _stopped(pid: int) -> bool:
    """Also true for a process that has ended meanwhile."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t", b"Z", b"X")
    except OSError:
        return True


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
