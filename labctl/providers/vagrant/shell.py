"""A word with a machine's sshd, through OpenSSH: is it there, which boot is this, stop in order.

The host key is taken on the first connection, over the lab's closed network on this very host, and pinned from then on.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from pathlib import Path

import msgspec

PORT = 22
CONNECT_S = 3.0
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Said(msgspec.Struct, frozen=True):
    boot_id: str
    arch: str


def greets(address: str, deadline_s: float) -> bool:
    """Whether something there speaks SSH. An emulated sshd on a busy host takes seconds to say its first word; its kernel takes none to connect,
    and a try that began too early, or at the hardware address of one that is gone, is only repeated after ever longer pauses."""
    try:
        with socket.create_connection((address, PORT), timeout=min(CONNECT_S, deadline_s)) as connection:
            connection.settimeout(deadline_s)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def who(address: str, key: Path, known_hosts: Path, deadline_s: float) -> Said | None:
    """The boot that answers at this address; None if none does within the deadline."""
    done = run(address, key, known_hosts, "cat /proc/sys/kernel/random/boot_id; uname -m", deadline_s)
    words = done.stdout.split() if done and done.returncode == 0 else []
    return Said(words[0], ARCHITECTURES.get(words[1], words[1])) if len(words) == 2 else None


def run(address: str, key: Path, known_hosts: Path, command: str, deadline_s: float) -> subprocess.CompletedProcess[str] | None:
    """A command as root; None if it took too long."""
    argv = _argv(address, key, known_hosts, command, deadline_s)
    try:
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=deadline_s)
    except subprocess.TimeoutExpired:
        return None


def set_clock(address: str, key: Path, known_hosts: Path, deadline_s: float, then: str = "true") -> bool:
    """Give it the time of day, and do `then`. The time is said when the connection stands: an emulated machine takes seconds to accept one."""
    command = f'echo ready && read -r now && date -s "@$now" >/dev/null || exit 1; {then}'
    pipe = subprocess.PIPE
    talking = subprocess.Popen(_argv(address, key, known_hosts, command, deadline_s), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
    assert talking.stdin and talking.stdout
    limit = threading.Timer(deadline_s, talking.kill)
    limit.start()
    try:
        with contextlib.suppress(BrokenPipeError), talking.stdin:
            if talking.stdout.readline():
                talking.stdin.write(b"%.3f\n" % time.time())
        return talking.wait() == 0
    finally:
        limit.cancel()
        talking.kill()
        talking.wait()
        talking.stdout.close()


def _argv(address: str, key: Path, known_hosts: Path, command: str, deadline_s: float) -> list[str]:
    options = {
        "IdentityFile": key,
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "UserKnownHostsFile": known_hosts,
        "StrictHostKeyChecking": "accept-new",
        "HostKeyAlias": "machine",
        "HostKeyAlgorithms": "ssh-ed25519",
        "KexAlgorithms": "^curve25519-sha256",  # OpenSSH's own first choice takes an emulated machine a second
        "ConnectTimeout": max(1, round(deadline_s)),
        "LogLevel": "ERROR",
    }
    words = (word for name, value in options.items() for word in ("-o", f"{name}={value}"))
    return ["ssh", "-F", "none", *words, f"root@{address}", command]


def host_key(known_hosts: Path) -> str:
    """The key that was pinned ('ssh-ed25519 AAAA...'); empty if none was."""
    try:
        words = known_hosts.read_text().split()
    except FileNotFoundError:
        return ""
    return " ".join(words[1:3])
