"""The SSH process as a child of the master: how it is started, and how it is waited for.

Who calls it: process.py, each time it needs one; `labctl.master.__main__` before its own imports where a snapshot is restored, because the child's imports
take a quarter of a second and nothing else is in their way then. The child waits for wire.Configure, and ends when its socket closes.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys


class SshChild:
    """One life of the SSH process. `connection` is our end of the socket pair between us and it."""

    def __init__(self) -> None:
        """Start it. Raises OSError where no process can be started."""
        self.connection, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "labctl.remote.worker", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
            except OSError:
                self.connection.close()
                raise

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        """Wait until it has ended; answers its exit status, or minus the signal that ended it."""
        if self._process.returncode is None:
            await _ended(self.pid)
        return self._process.wait()


async def _ended(pid: int) -> None:
    """Return when the child process `pid` has ended. No thread waits for it."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    descriptor = os.pidfd_open(pid)  # the process is our child and nobody has waited for it, so this is no other's
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
