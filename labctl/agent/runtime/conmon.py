"""One container's birth under conmon: it holds the streams, writes the log and the exit code, and outlives the agent.

conmon forks itself away, runs `crun create`, and tells the container's pid through a pipe; then we run `crun start`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from typing import Dict, List, Sequence

from .. import processes
from ..deadlines import wait_for
from .interface import ContainerSpec, RuntimeFailure, StartRefused

LOG_LIMIT_BYTES = 32 << 20  # the agent rotates long before; this bounds the log while no agent runs


def environment() -> Dict[str, str]:
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def program(name: str) -> str:
    found = shutil.which(name, path=environment()["PATH"])
    if found is None:
        raise RuntimeFailure(f"{name} is not installed on this machine")
    return found


def crun_argv(crun_root: str, *arguments: str) -> List[str]:
    return [program("crun"), "--root", crun_root, "--cgroup-manager=cgroupfs", *arguments]


def conmon_argv(spec: ContainerSpec, identity: str, bundle: str, crun_root: str) -> List[str]:
    argv = [program("conmon"), "--api-version", "1", "-c", identity, "-u", identity, "-n", spec.name, "-b", bundle, "-r", program("crun")]
    argv += ["-p", f"{bundle}/pid", "-P", f"{bundle}/conmon.pid", "--exit-dir", f"{bundle}/exits", "--persist-dir", bundle, "--full-attach"]
    argv += ["--runtime-arg", f"--root={crun_root}", "--runtime-arg", "--cgroup-manager=cgroupfs", "--log-level", "error"]
    argv += ["-l", f"k8s-file:{spec.log_path or '/dev/null'}", "--log-size-max", str(LOG_LIMIT_BYTES)]
    if spec.tty:
        argv.append("-t")
    if spec.stdin:
        argv.append("-i")
        if not spec.stdin_once:
            argv.append("--leave-stdin-open")
    return argv


_WITH_OWN_FILES = """
quietly=nosuid,nodev,noexec
mount -t proc -o $quietly proc /proc && { [ -z "$0" ] || unshare --net mount -t sysfs -o $quietly sysfs "$0"; } && exec "$@"
"""


def with_own_files(argv: Sequence[str], sys: str) -> List[str]:
    """Return a command that runs `argv` where a whole /proc is mounted, and a /sys that may be written at `sys` if that is not empty; nobody else sees them.

    The kernel lets users of their own mount a /proc or /sys only where they would see and write as much without: nothing may be mounted below the one that is
    there, and none be read-only, as on machines that share their host's kernel. Each network has a /sys, so a new one can be had that was not made read-only.
    What such users are then given answers to the machine's root alone.
    """
    return [program("unshare"), "--mount", "--propagation", "slave", "--", "/bin/sh", "-c", _WITH_OWN_FILES, sys, *argv]


async def create(
    spec: ContainerSpec, identity: str, bundle: str, crun_root: str, timeout_s: float = 30.0, *, own_users: bool = False
) -> int:
    """Create a container and return its pid; it waits to be started. Raises StartRefused in crun's words, RuntimeFailure if conmon failed."""
    argv = conmon_argv(spec, identity, bundle, crun_root)
    if own_users:
        sys = os.path.join(bundle, "sys") if spec.privileged else ""
        if sys:
            os.makedirs(sys, exist_ok=True)
        argv = with_own_files(argv, sys)
    read_end, write_end = os.pipe()
    try:
        env = {**environment(), "_OCI_SYNCPIPE": str(write_end)}
        finished = await processes.run(argv, timeout_s=timeout_s, env=env, cwd=bundle, pass_fds=(write_end,))
    finally:
        os.close(write_end)
    try:
        if finished.status != 0:
            raise RuntimeFailure(f"conmon: {finished.output.decode(errors='replace').strip()[-500:] or finished.status}")
        told = await wait_for(asyncio.get_running_loop().run_in_executor(None, _first_line, read_end), timeout_s)
    finally:
        os.close(read_end)
    if not told:
        raise RuntimeFailure("conmon said nothing")
    answer = json.loads(told)
    pid = answer.get("data", answer.get("pid", -1))
    if pid <= 0:
        raise StartRefused(one_line(answer.get("message", "")) or f"crun create failed with {pid}")
    return pid


def _first_line(descriptor: int) -> bytes:
    kept = b""
    while not kept.endswith(b"\n"):
        piece = os.read(descriptor, 4096)
        if not piece:
            break
        kept += piece
    return kept


def one_line(message: str) -> str:
    """Return crun's message without its time stamp and level, in one line."""
    lines = [line.split(": ", 1)[-1] if line.startswith("20") else line for line in message.strip().splitlines()]
    return "; ".join(line.strip() for line in lines if line.strip())[-1000:]


async def crun(crun_root: str, *arguments: str, timeout_s: float = 30.0, pass_fds: Sequence[int] = ()) -> processes.Finished:
    return await processes.run(crun_argv(crun_root, *arguments), timeout_s=timeout_s, env=environment(), pass_fds=pass_fds)
