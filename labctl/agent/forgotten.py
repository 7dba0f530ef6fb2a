"""Ends commands that were run in containers for a client that is gone: `kubectl exec` of a program that ignores signals, and says nothing.

Such a command, and the crun that waits for it, would stay until its container ends; crun is no process of the pod, so the pod's bounds do not count it, and a
client that asks again and again fills the machine. containerd kills a command with its client, too. A command that nobody's client began (by `&`) is no
child of crun, and stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from typing import List

from . import linux
from .readers import GONE

_WORDS_BYTES = 4096


async def run(crun_root: str, every_s: float) -> None:
    """Look now and then, until cancelled."""
    while True:
        await asyncio.sleep(every_s)
        await asyncio.get_running_loop().run_in_executor(None, end_all, crun_root)


def end_all(crun_root: str) -> int:
    """Kill the commands whose output nobody can read any more. Return how many."""
    everybody = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    waiting = [pid for pid in everybody if _executes(pid, crun_root) and not _is_read(pid)]
    ended = 0
    for pid in everybody if waiting else ():
        if linux.parent(pid) in waiting:
            ended += _kill(pid, waiting)
    return ended


def _executes(pid: int, crun_root: str) -> bool:
    """Tell whether this is a `crun exec` of ours."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words: List[bytes] = file.read(_WORDS_BYTES).split(b"\0")
    except OSError:
        return False  # it has just ended
    return words[0].endswith(b"/crun") and os.fsencode(crun_root) in words and b"exec" in words


def _is_read(pid: int) -> bool:
    """Tell whether anybody can read what the process prints: the other end of its pipe is open, or its terminal has not hung up."""
    try:
        descriptor = os.open(f"/proc/{pid}/fd/1", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True  # it has just ended, or has no output at all
    except OSError as error:
        return error.errno != 5  # EIO: the terminal has hung up; a socket can't be opened
    try:
        poll = select.poll()
        poll.register(descriptor, 0)
        return not any(events & GONE for _, events in poll.poll(0))
    finally:
        os.close(descriptor)


def _kill(pid: int, parents: List[int]) -> int:
    """Kill a process if it is still the child of one of these. Through a pidfd, so that nobody else with its number is hit."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if linux.parent(pid) in parents:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                return 1
        finally:
            os.close(descriptor)
    return 0
