"""A real sshd on loopback, for one test: its own port, keys and configuration; ended by its pid, with all it started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from labctl.remote.interface import Target

CONFIGURATION = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
StrictModes no
UsePAM no
PidFile none
MaxStartups 100
MaxSessions 10
"""
PROGRAM = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:/usr/bin")


class Sshd:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self.user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
        for name in ("host_key", "key", "other_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        (folder / "sshd_config").write_text(CONFIGURATION.format(port=self.port, folder=folder))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(PROGRAM), "-D", "-f", str(self.folder / "sshd_config"), "-E", str(self.folder / "log")]
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # its privilege separation wants it
            # bash reads it at every command; the rest of root's home stays, where this checkout may lie
            empty = '[ ! -e /root/.bashrc ] || mount --bind /dev/null /root/.bashrc; exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", empty, "sh", *command]
        self.process = subprocess.Popen(command)
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.01)

    def stop(self) -> None:
        if self.process:
            self.cut()
            self.process.kill()
            self.process.wait()
            self.process = None

    def cut(self) -> None:
        """Kill every connection's process, and what runs on it."""
        for pid in self.connections():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def connections(self) -> list[int]:
        """The processes of the connections there are, and of what runs on them."""
        assert self.process
        return _descendants(self.process.pid)

    def target(self, name: str, *, key: str = "host_key", generation: str = "boot-1") -> Target:
        host_key = (self.folder / f"{key}.pub").read_text()
        return Target(name, "127.0.0.1", self.port, self.user, str(self.folder / "key"), host_key, generation)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Sshd]:
    sshd = Sshd(folder)
    try:
        sshd.start()
        yield sshd
    finally:
        sshd.stop()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _descendants(pid: int) -> list[int]:
    """Youngest last."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found.append(int(child))
        with contextlib.suppress(FileNotFoundError):
            found += _descendants(int(child))
    return found
