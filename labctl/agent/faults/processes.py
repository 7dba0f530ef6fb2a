"""Kills a program of labctl's on the machine, or its SSH server. Whoever supervises it starts it again: that is what the fault shows."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import List, Sequence

from .. import linux
from ..helper.check import Refused, one_of
from .request import Request

WORDS = {
    "agent": (b"/opt/labctl/agent", b"run"),
    "helper": (b"/opt/labctl/agent", b"helper"),
    "dns": (b"labctl-dns",),
    "sshd": (b"sshd",),
}
BACK = {
    "agent": "its supervisor (agent-run, or systemd) starts it again",
    "helper": "the master starts another one with its next call",
    "dns": "the helper starts it again, or the agent if there is no helper",
    "sshd": "the machine's init starts it again; every SSH connection is lost",
}
ANSWER_S = 0.5  # after which the connection that carries this answer is ended, too


def look(asked: Request) -> str:
    process = _process(asked)
    return "" if _found(process) else f"no {process} runs here"


def kill(asked: Request) -> Sequence[str]:
    """Those that are older than the fault: one that was started since is the successor of one that a repeated request killed before."""
    process = _process(asked)
    since_s = time.clock_gettime(time.CLOCK_BOOTTIME) - asked.number("ageSeconds", 0, 1e9)
    found = [pid for pid in _found(process) if linux.start_ticks(pid) / os.sysconf("SC_CLK_TCK") <= since_s]
    above = _ancestors()
    for pid in (pid for pid in found if pid not in above):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    mine = [pid for pid in found if pid in above]
    if mine:
        _kill_later(mine)
    return [f"sent SIGKILL to {len(found)} processes of {process}; {BACK[process]}"]


def _process(asked: Request) -> str:
    return one_of(asked.parameters.get("process"), tuple(WORDS))


def _found(process: str) -> List[int]:
    own = os.getpid()
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid != own and _is(pid, process)]


def _is(pid: int, process: str) -> bool:
    """Programs of the agent are known by their words, the others by their names. A pod's processes are in other process namespaces, and don't count."""
    try:
        if os.readlink(f"/proc/{pid}/ns/pid") != os.readlink("/proc/self/ns/pid"):
            return False
        with open(f"/proc/{pid}/comm", "rb") as file:
            name = file.read().strip()
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).split(b"\0")
    except OSError:
        return False
    wanted = WORDS[process]
    if len(wanted) == 1:
        return name == wanted[0] or (process == "sshd" and name.startswith(b"sshd-"))
    return len(words) > 2 and words[1:3] == list(wanted)


def _ancestors() -> List[int]:
    found, pid = [], os.getpid()
    while pid > 1:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                pid = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError) as error:
            raise Refused(f"the process above {pid} can't be read: {error}") from error
        found.append(pid)
    return found


def _kill_later(pids: List[int]) -> None:
    """Kill the processes from a session of our own, when the answer is on its way."""
    if os.fork():
        return
    try:
        os.setsid()
        time.sleep(ANSWER_S)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    finally:
        os._exit(0)
