"""The machine's BIRD, a routing daemon: kept running with the configuration that the master sends.

Who calls it: network.py. It is a process of its own session with labctl's configuration and BIRD's usual control socket, so `birdc` works as ever; it
outlives this helper, and the connection that brought it. Where systemd would start another BIRD, that one is disabled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

from . import check, commands

CONFIGURATION = "/etc/labctl/bird.conf"
CONTROL = "/run/bird/bird.ctl"
PID_FILE = "/run/labctl-bird.pid"
TEXT_BYTES_MAX = 4 << 20
END_S = 5.0


class Bird:
    """Kept for as long as the helper runs, so that it can see whether the daemon is still there."""

    def __init__(self) -> None:
        self._pid = 0

    def program(self, text: Any) -> int:
        """BIRD's configuration, or nothing: it is not to run. How many changes it took; raises Failed with BIRD's own words."""
        self._pid = 0
        if not text:
            return remove()
        if not isinstance(text, str) or len(text) > TEXT_BYTES_MAX:
            raise check.Refused("a configuration is one text of a bounded size")
        new = _written(text)
        started = not running()
        if started:
            _start()
        elif new:
            commands.run(["birdc", "-s", CONTROL, "configure"])
        self._pid = running()
        return int(new or started)

    def lost(self) -> bool:
        """True once, when it has ended."""
        if not self._pid or self._pid == running():
            return False
        self._pid = 0
        return True


def running() -> int:
    """The daemon's process; 0: it does not run."""
    try:
        with open(PID_FILE) as file:
            pid = int(file.read())
        with open(f"/proc/{pid}/comm") as file:
            return pid if file.read().strip() == "bird" else 0
    except (OSError, ValueError):
        return 0


def remove() -> int:
    """End it, and take its configuration away. Its routes go with it."""
    pid = running()
    if pid:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + END_S
        while running() and time.monotonic() < deadline:
            time.sleep(0.02)
    for path in (CONFIGURATION, PID_FILE):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return int(bool(pid))


def _written(text: str) -> bool:
    """Whether it was another one. BIRD reads it first: one it does not understand never replaces one that works."""
    try:
        with open(CONFIGURATION) as file:
            if file.read() == text:
                return False
    except FileNotFoundError:
        pass
    os.makedirs(os.path.dirname(CONFIGURATION), exist_ok=True)
    with open(CONFIGURATION + ".new", "w") as file:
        file.write(text)
    commands.run(["bird", "-p", "-c", CONFIGURATION + ".new"])
    os.rename(CONFIGURATION + ".new", CONFIGURATION)
    return True


def _start() -> None:
    """It goes into the background by itself, when it has read its configuration."""
    if os.path.isdir("/run/systemd/system"):
        commands.attempt(["systemctl", "disable", "--now", "bird"])
    os.makedirs(os.path.dirname(CONTROL), exist_ok=True)
    commands.run(["bird", "-c", CONFIGURATION, "-s", CONTROL, "-P", PID_FILE])
    deadline = time.monotonic() + END_S
    while not running():
        if time.monotonic() > deadline:
            raise commands.Failed("bird did not start; /var/log/labctl/bird.log may say why")
        time.sleep(0.02)
