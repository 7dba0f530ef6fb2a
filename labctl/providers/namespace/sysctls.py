"""The host's sysctls are not a machine's to write, however its root mounts /proc.

/proc/sys is read-only in a machine, but root there may mount another proc, or this one anew: mounting is what pods need. So the kernel asks a small
program about every access to a sysctl by a process of the machine's cgroup: reading is allowed, writing only what belongs to namespaces
that the machine has of its own (network, IPC, host name). It needs a version 2 cgroup, also where controllers are version 1's; kernels since 5.2 have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labctl.errors import ProviderError
from labctl.providers.namespace.bpf import (
    ADD,
    ANSWER,
    CALL,
    EXIT,
    JNE,
    LDXB,
    LDXH,
    LDXW,
    MOV,
    MOVR,
    STACK,
    SYSCTL,
    attach,
    instruction,
)  # fmt: skip

OWN = ("net/", "kernel/shm", "kernel/msg", "kernel/sem", "fs/mqueue/", "kernel/hostname", "kernel/domainname")
"""Beginnings of the names that a machine may write."""

_GET_NAME = 101
_NAME_BYTES = 64
_CONTEXT, _LOADED = 6, 7  # registers that a call leaves as they are
_CHUNKS = ((4, LDXW), (2, LDXH), (1, LDXB))


def protect(cgroup: Path) -> bool:
    """Whether the kernel keeps the host's sysctls from the processes of this cgroup now. False where it can't."""
    try:
        attach(cgroup, SYSCTL, program())
    except (ProviderError, OSError):
        return False
    return True


def program(own: Sequence[str] = OWN) -> bytes:
    """Is it read? then 1. Else the name is put on the stack and compared with each beginning: 1 if one fits, 0 at the end."""
    allow = [instruction(MOV, ANSWER, constant=1), instruction(EXIT)]
    code = [
        instruction(MOVR, _CONTEXT, 1),
        instruction(LDXW, ANSWER, _CONTEXT),  # `write`
        instruction(JNE, ANSWER, offset=2),
        *allow,
        instruction(MOVR, 1, _CONTEXT),
        instruction(MOVR, 2, STACK),
        instruction(ADD, 2, constant=-_NAME_BYTES),
        instruction(MOV, 3, constant=_NAME_BYTES),
        instruction(MOV, 4),
        instruction(CALL, constant=_GET_NAME),
    ]
    for beginning in own:
        comparisons = _comparisons(beginning.encode())
        for place, (load, differs) in enumerate(comparisons):
            left = len(comparisons) - 1 - place
            code += [load, instruction(JNE, _LOADED, offset=2 * left + len(allow), constant=differs)]
        code += allow
    return b"".join([*code, instruction(MOV, ANSWER), instruction(EXIT)])


def _comparisons(text: bytes) -> list[tuple[bytes, int]]:
    """Loads of the name piece by piece, and what each has to be. Both processors are little-endian."""
    found, at = [], 0
    while at < len(text):
        size, opcode = next((size, opcode) for size, opcode in _CHUNKS if size <= len(text) - at)
        found.append((instruction(opcode, _LOADED, STACK, offset=at - _NAME_BYTES), int.from_bytes(text[at : at + size], "little")))
        at += size
    return found
