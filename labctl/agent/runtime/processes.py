"""The process namespace that all containers of a pod share (`shareProcessNamespace`), and the one process that holds it.

A process namespace lives as long as its first process, so such a pod needs one that never ends: `sleep` that ignores SIGCHLD, which makes the kernel
reap every process whose parent ended. It is in a control group of the pod and outlives the agent. Killing it ends everything in the namespace.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import Callable, List, Mapping, Sequence, Tuple

from .. import linux
from . import userns
from .interface import ContainerSpec, RuntimeFailure, Sandbox, State
from .records import Records, read_json, write_json

_START_S = 5.0
_HOLDER = ("/bin/sh", "-c", "trap '' CHLD TERM INT HUP; exec sleep infinity")


def held(folder: str) -> bool:
    """Tell whether the first process of the namespace at FOLDER/pid lives."""
    record = read_json(os.path.join(folder, "holder.json"))
    return record is not None and linux.start_ticks(record["pid"]) == record["ticks"] != 0


def hold(folder: str, adopt: Callable[[int], None]) -> None:
    """Starts the first process, unless it lives, and mounts its namespace at FOLDER/pid. `adopt` puts it into its control group. Blocking. Raises OSError."""
    if held(folder):
        return
    release(folder)
    os.makedirs(folder, exist_ok=True)
    users = os.path.join(folder, "user")
    starter, pid = _start_of_own_users(users) if os.path.exists(users) else _start()
    for each in {starter, pid}:
        adopt(each)
    write_json(os.path.join(folder, "holder.json"), {"pid": pid, "ticks": linux.start_ticks(pid), "starter": starter})
    userns.hold(f"/proc/{pid}/ns/pid", os.path.join(folder, "pid"))


def _start() -> Tuple[int, int]:
    """Return who started the first process of a new namespace, which is the process itself, and that process."""
    started: List[int] = []

    def work() -> None:
        linux.unshare(linux.CLONE_NEWPID)  # of this thread's children; the thread itself stays and ends
        started.append(_run(_HOLDER))

    linux.in_own_thread("processes", work)
    return started[0], started[0]


def _start_of_own_users(users: str) -> Tuple[int, int]:
    """The same for a namespace that belongs to the users of the namespace at `users`: only a program of one thread can become one of them. Raises OSError."""
    starter = _run(["nsenter", f"--user={users}", "--", "unshare", "--pid", "--fork", "--", *_HOLDER])
    until = time.monotonic() + _START_S
    while time.monotonic() < until and linux.start_ticks(starter):
        found = [int(name) for name in os.listdir("/proc") if name.isdigit() and linux.parent(int(name)) == starter]
        if found:
            return starter, found[0]
        time.sleep(0.002)
    with contextlib.suppress(OSError):
        os.kill(starter, signal.SIGKILL)
        os.waitpid(starter, 0)
    raise OSError("the first process of the pod did not start")


def _run(argv: Sequence[str]) -> int:
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/"
    )
    process.returncode = 0  # nobody waits for it through this object
    return process.pid


def release(folder: str) -> None:
    """Ends the first process, and every process in its namespace with it. None there is no error."""
    record = read_json(os.path.join(folder, "holder.json"))
    if record is not None and linux.start_ticks(record["pid"]) == record["ticks"] != 0:
        with contextlib.suppress(ProcessLookupError):
            os.kill(record["pid"], signal.SIGKILL)
    if record is not None:
        with contextlib.suppress(ChildProcessError, OSError):  # an agent that did not start it is not its parent
            os.waitpid(record.get("starter", record["pid"]), 0)
        os.unlink(os.path.join(folder, "holder.json"))
    linux.unmount(os.path.join(folder, "pid"))


def namespace_of(spec: ContainerSpec, sandbox: Sandbox, records: Records) -> Mapping[str, str]:
    """Return which processes a container sees: its own, its pod's, another container's, or the machine's (no entry). Raises RuntimeFailure."""
    if sandbox.host_pid:
        return {}
    if sandbox.share_pid:
        return {"pid": os.path.join(records.pod_dir(spec.pod_uid), "ns", "pid")}
    if not spec.sees_processes_of:
        return {"pid": ""}
    target = records.pod(spec.pod_uid).latest(spec.sees_processes_of)
    if target is None or target.state is not State.RUNNING:
        raise RuntimeFailure(f"unable to find target container {spec.sees_processes_of}")
    return {"pid": f"/proc/{target.pid}/ns/pid"}
