"""Talks to a machine's sshd, through OpenSSH: whether it is there, which boot this is, and stopping in order.

The host key is taken at the first connection, over the lab's closed network on this host, and pinned from then on.
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


class BootAnswer(msgspec.Struct, frozen=True):
    """What a machine answered about itself."""

    boot_id: str
    arch: str


def greets(address: str, deadline_s: float) -> bool:
    """Tell whether an SSH server answers there.

    An emulated sshd on a busy host takes seconds for its first line, while its kernel accepts a connection at once. A try that began too
    early, or that went
    to the hardware address of a machine that is gone, would be repeated only after ever longer pauses.
    """
    try:
        with socket.create_connection((address, PORT), timeout=min(CONNECT_S, deadline_s)) as connection:
            connection.settimeout(deadline_s)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def ask_boot(address: str, key: Path, known_hosts: Path, deadline_s: float) -> BootAnswer | None:
    """Return the boot that answers at this address, or None if none does within the deadline."""
    done = run(address, key, known_hosts, "cat /proc/sys/kernel/random/boot_id; uname -m", deadline_s)
    words = done.stdout.split() if done and done.returncode == 0 else []
    return BootAnswer(words[0], ARCHITECTURES.get(words[1], words[1])) if len(words) == 2 else None


def run(address: str, key: Path, known_hosts: Path, command: str, deadline_s: float) -> subprocess.CompletedProcess[str] | None:
    """Run a command as root. Return None if it took too long."""
    argv = _argv(address, key, known_hosts, command, deadline_s)
    try:
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=deadline_s)
    except subprocess.TimeoutExpired:
        return None


def set_clock(address: str, key: Path, known_hosts: Path, deadline_s: float, then: str = "true") -> bool:
    """Set the machine's clock, and then run `then`.

    The time is sent when the connection is open, because an emulated machine takes seconds to accept one.
    """
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
        "KexAlgorithms": "^curve25519-sha256",  # OpenSSH's default takes an emulated machine a second
        "ConnectTimeout": max(1, round(deadline_s)),
        "LogLevel": "ERROR",
    }
    words = (word for name, value in options.items() for word in ("-o", f"{name}={value}"))
    return ["ssh", "-F", "none", *words, f"root@{address}", command]


def host_key(known_hosts: Path) -> str:
    """Return the pinned key ('ssh-ed25519 AAAA...'), or an empty text if there is none."""
    try:
        words = known_hosts.read_text().split()
    except FileNotFoundError:
        return ""
    return " ".join(words[1:3])
