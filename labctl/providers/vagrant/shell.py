"""A word with a machine's sshd, through OpenSSH: is it there, which boot is this, stop in order.

The host key is taken on the first connection, over the lab's closed network on this very host, and pinned from then on.
"""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import msgspec

PORT = 22
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Said(msgspec.Struct, frozen=True):
    boot_id: str
    arch: str


def greets(address: str, deadline_s: float) -> bool:
    """Whether something there speaks SSH. An emulated sshd on a busy host takes seconds to say its first word."""
    try:
        with socket.create_connection((address, PORT), timeout=deadline_s) as connection:
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
    options = {
        "IdentityFile": key,
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "UserKnownHostsFile": known_hosts,
        "StrictHostKeyChecking": "accept-new",
        "HostKeyAlias": "machine",
        "HostKeyAlgorithms": "ssh-ed25519",
        "ConnectTimeout": max(1, round(deadline_s)),
        "LogLevel": "ERROR",
    }
    argv = [
        "ssh",
        "-F",
        "none",
        *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
        f"root@{address}",
        command,
    ]
    try:
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=deadline_s)
    except subprocess.TimeoutExpired:
        return None


def host_key(known_hosts: Path) -> str:
    """The key that was pinned ('ssh-ed25519 AAAA...'); empty if none was."""
    try:
        words = known_hosts.read_text().split()
    except FileNotFoundError:
        return ""
    return " ".join(words[1:3])
