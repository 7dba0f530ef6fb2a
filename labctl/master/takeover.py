"""One life of the master's process after another, so that the second needs no imports. labctl/lab/takeover.py is the other side, and has the picture.

Who calls it: process.py, for the signal that ends a life, and between two lives. What it never does: begin a life beside what is left of the one before.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
import time
from typing import NamedTuple

from labctl.paths import Paths
from labctl.remote.child import SshChild

log = logging.getLogger(__name__)

PROVIDERS = ("", "namespace")
"""Labs whose master may start over. libvirt has a thread that lasts as long as its process, and connections of its own."""
OVER = b"over"
THREADS_DEADLINE_S = 8.0
"""A starter waits 10 s before it kills this process, and starts another."""


class Pipes(NamedTuple):
    """What a life of this process begins with: where it hears its word, and where it says that it answers; -1 for none.

    `ssh` is the SSH process, where it was begun already.
    """

    go: int = -1
    ready: int = -1
    ssh: SshChild | None = None


class Ending:
    """The end of a life: `told` is set by SIGTERM, SIGINT or SIGHUP. With SIGHUP the process starts over afterwards."""

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.takes_over = False

    def listen(self) -> None:
        """Handle the signals from now on, until the running loop is closed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, False)
        loop.add_signal_handler(signal.SIGHUP, self._end, True)

    def _end(self, takes_over: bool) -> None:
        self.takes_over = takes_over  # whoever says SIGTERM after SIGHUP wants it gone
        self.told.set()


def begin_anew(paths: Paths) -> Pipes | None:
    """Get ready for another life, and say so to the starter. Return None if this process has to end: then the starter begins another.

    Nothing of the life before may go on: a thread that still boots a machine would do so in the restored lab.
    """
    if not _threads_ended():
        log.warning("no new life in this process: %s still runs", ", ".join(thread.name for thread in _others()))
        return None
    try:  # without waiting: the starter has opened both, unless it was killed
        go = os.open(paths.takeover_go, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        ready = os.open(paths.takeover_ready, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(go, True)
        os.write(ready, OVER)
    except OSError:
        return None
    pipes = Pipes(go, ready, SshChild())  # its imports take as long as the machines need to be put in place
    gc.collect()  # the life before is large, and nobody waits now
    return pipes


def _others() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread is not threading.current_thread()]


def _threads_ended() -> bool:
    deadline = time.monotonic() + THREADS_DEADLINE_S
    for thread in _others():
        thread.join(max(0.0, deadline - time.monotonic()))
    return not _others()
