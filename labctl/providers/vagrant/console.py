"""Reads what a machine of labctl's own box prints on its console, which the hypervisor writes into a file: its boot id and its host key.

It is read if this user may read the file. That is quick, while a first SSH connection to an emulated machine takes seconds; and what comes
from the
hypervisor can be trusted without a first use. If it can't be read, shell.py asks the machine.
"""

from __future__ import annotations

from pathlib import Path

from labctl import logfiles

_BOOT = b"labctl: boot "
_KEY = b"labctl: host key ssh-ed25519 "


def last_boot(console: Path) -> tuple[str, str] | None:
    """Return (boot id, host key 'ssh-ed25519 AAAA...') of the latest boot, or None if it has not printed both, or the file can't be read."""
    try:
        lines = logfiles.end(console).splitlines()
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
    """Tell whether a kernel has printed anything. The answer is also False if the file can't be read."""
    try:
        return _BOOT in logfiles.end(console) or console.stat().st_size > logfiles.MOST_BYTES
    except OSError:
        return False


def _word(line: bytes, sign: bytes) -> str:
    words = line.partition(sign)[2].split()
    return words[0].decode("ascii", "replace") if words else ""
