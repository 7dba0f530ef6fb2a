"""Limits which devices a cgroup may use, for version 2. There it takes a small BPF program, which is assembled here.

The kernel calls the program for every access with (kind and access, major, minor), and it answers 1 or 0. It lives as long as the cgroup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import ProviderError
from labctl.providers.namespace.bpf import AND, ANSWER, DEVICE, EXIT, JNE, JSET, LDXW, MOV, MOVR, RSH, attach
from labctl.providers.namespace.bpf import instruction as _instruction

_KINDS = {"b": 1, "c": 2}
_ACCESSES = {"m": 1, "r": 2, "w": 4}
_CONTEXT, _ACCESS, _KIND, _MAJOR, _MINOR = 1, 2, 3, 4, 5  # registers


@dataclass(frozen=True)
class Device:
    """A device. `kind` is b or c; a number below 0 means all. Its text is what version 1's devices.allow takes."""

    kind: str
    major: int = -1
    minor: int = -1
    access: str = "rwm"

    def __str__(self) -> str:
        numbers = ":".join("*" if number < 0 else str(number) for number in (self.major, self.minor))
        return f"{self.kind} {numbers} {self.access}"


def program(allowed: Sequence[Device]) -> bytes:
    """Return the instructions: one block per device that answers 1 or continues with the next, and 0 at the end."""
    code = [
        _instruction(LDXW, _ACCESS, _CONTEXT, 0),
        _instruction(MOVR, _KIND, _ACCESS),
        _instruction(AND, _KIND, constant=0xFFFF),
        _instruction(RSH, _ACCESS, constant=16),
        _instruction(LDXW, _MAJOR, _CONTEXT, 4),
        _instruction(LDXW, _MINOR, _CONTEXT, 8),
    ]
    for device in allowed:
        code += _block(device)
    return b"".join([*code, _instruction(MOV, ANSWER, constant=0), _instruction(EXIT)])


def allow_only(cgroup: Path, allowed: Sequence[Device]) -> None:
    """Load the program and attach it to the cgroup."""
    try:
        attach(cgroup, DEVICE, program(allowed))
    except ProviderError as error:
        raise ProviderError(f"the list of a machine's devices can't be set: {error.message}") from error


def _block(device: Device) -> list[bytes]:
    refused = 7 - sum(_ACCESSES[letter] for letter in device.access)
    tests = [(JNE, _KIND, _KINDS[device.kind])]
    if refused:
        tests.append((JSET, _ACCESS, refused))
    tests += [(JNE, register, number) for register, number in ((_MAJOR, device.major), (_MINOR, device.minor)) if number >= 0]
    length = len(tests) + 2
    block = [
        _instruction(opcode, register, offset=length - 1 - place, constant=value) for place, (opcode, register, value) in enumerate(tests)
    ]
    return [*block, _instruction(MOV, ANSWER, constant=1), _instruction(EXIT)]
