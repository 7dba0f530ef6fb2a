"""What a machine of labctl's own box says on its console, which the hypervisor writes into a file: its boot, and the host key it is known by.

Read where the file may be read: it costs nothing, while a first SSH connection to an emulated machine takes seconds; and what comes from the
hypervisor needs no trust on first use. Where it can't be read, shell.py asks.
"""

from __future__ import annotations

from pathlib import Path

_BOOT = b"labctl: boot "
_KEY = b"labctl: host key ssh-ed25519 "


def last_boot(console: Path) -> tuple[str, str] | None:
    """(boot id, host key 'ssh-ed25519 AAAA...') of the boot that wrote last, once it has said both; None if it has not, or nobody may read it."""
    try:
        lines = console.read_bytes().splitlines()
    except OSError:
        return None
    boot = key = ""
    for line in lines:
        if _BOOT in line:
            boot, key = _word(line, _BOOT), ""
        elif _KEY in line:
            key = _word(line, _KEY)
    return (boot, f"ssh-ed25519 {key}") if boot and key else None


def heard(console: Path) -> bool:
    """Whether a kernel has come far enough to speak. False also where nobody may read it."""
    try:
        return _BOOT in console.read_bytes()
    except OSError:
        return False


def _word(line: bytes, sign: bytes) -> str:
    words = line.partition(sign)[2].split()
    return words[0].decode("ascii", "replace") if words else ""
