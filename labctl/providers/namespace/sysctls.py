"""Keeps a machine from writing the host's sysctls, however its root mounts /proc.

/proc/sys is read-only in a machine, but root there may mount another proc, because pods need to mount. So the kernel calls a small
program for every access to a sysctl by a process of the machine's cgroup: reading is allowed, writing only what belongs to the machine's
own
namespaces (network, IPC, host name). It needs a version 2 cgroup, even if the controllers are version 1's; kernels since 5.2 have it.
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
"""The prefixes of the names that a machine may write."""

_GET_NAME = 101
_NAME_BYTES = 64
_CONTEXT, _LOADED = 6, 7  # registers that a call does not change
_CHUNKS = ((4, LDXW), (2, LDXH), (1, LDXB))


def protect(cgroup: Path) -> bool:
    """Attach the program to the cgroup. Return whether the kernel now protects the host's sysctls from its processes."""
    try:
        attach(cgroup, SYSCTL, program())
    except (ProviderError, OSError):
        return False
    return True


def program(own: Sequence[str] = OWN) -> bytes:
    """Return the instructions: 1 for reading.

    For writing, the name is put on the stack and compared with each prefix: 1 if one matches, else 0.
    """
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
    """Return the loads of the name piece by piece, and the value of each. Both processors are little-endian."""
    found, at = [], 0
    while at < len(text):
        size, opcode = next((size, opcode) for size, opcode in _CHUNKS if size <= len(text) - at)
        found.append((instruction(opcode, _LOADED, STACK, offset=at - _NAME_BYTES), int.from_bytes(text[at : at + size], "little")))
        at += size
    return found
