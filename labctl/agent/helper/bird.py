"""Keeps the routing daemon BIRD running on this machine, with the configuration that the master sends.

Who calls it: network.py. BIRD runs in a session of its own, with labctl's configuration and its usual control socket, so `birdc` works as usual. It
outlives this helper and the SSH connection. A BIRD that systemd would start is disabled.
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
    """This machine's BIRD. One object lives as long as the helper, and notices when the daemon has ended."""

    def __init__(self) -> None:
        self._pid = 0

    def program(self, text: Any) -> int:
        """Run BIRD with the configuration `text`, or end it if `text` is empty. Return the number of changes. Raises Failed with BIRD's own words."""
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
        """Return True once when the daemon has ended."""
        if not self._pid or self._pid == running():
            return False
        self._pid = 0
        return True


def running() -> int:
    """Return the daemon's process id, or 0 if it does not run."""
    try:
        with open(PID_FILE) as file:
            pid = int(file.read())
        with open(f"/proc/{pid}/comm") as file:
            return pid if file.read().strip() == "bird" else 0
    except (OSError, ValueError):
        return 0


def remove() -> int:
    """End the daemon and delete its configuration. Its routes go with it. Return 1 if it ran, else 0."""
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
    """Write the configuration and tell whether it is new. BIRD checks it first, so a broken one never replaces one that works."""
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
    """Start the daemon. It goes into the background itself when it has read its configuration."""
    if os.path.isdir("/run/systemd/system"):
        commands.attempt(["systemctl", "disable", "--now", "bird"])
    os.makedirs(os.path.dirname(CONTROL), exist_ok=True)
    commands.run(["bird", "-c", CONFIGURATION, "-s", CONTROL, "-P", PID_FILE])
    deadline = time.monotonic() + END_S
    while not running():
        if time.monotonic() > deadline:
            raise commands.Failed("bird did not start; /var/log/labctl/bird.log may say why")
        time.sleep(0.02)
