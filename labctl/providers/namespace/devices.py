"""Which devices a cgroup may use, for version 2: there it is no file but a small BPF program, made here instruction by instruction.

The program is asked for every access with (kind and access, major, minor) and answers 1 or 0. It lives as long as the cgroup.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import ProviderError

_SYSCALL = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _PROG_ATTACH = 5, 8
_PROG_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE = 15, 6
_ATTACH_ALLOW_MULTI = 2  # container runtimes below attach their own; all must agree
_KINDS = {"b": 1, "c": 2}
_ACCESSES = {"m": 1, "r": 2, "w": 4}

# opcodes: load word, and/right-shift by a constant, copy, jump if not equal, jump if any bit, set, exit
_LDXW, _AND, _RSH, _MOVR, _JNE, _JSET, _MOV, _EXIT = 0x61, 0x57, 0x77, 0xBF, 0x55, 0x45, 0xB7, 0x95
_CONTEXT, _ACCESS, _KIND, _MAJOR, _MINOR, _ANSWER = 1, 2, 3, 4, 5, 0  # registers


@dataclass(frozen=True)
class Device:
    """`kind` b or c; a number below 0 stands for all. As text: what version 1's devices.allow takes."""

    kind: str
    major: int = -1
    minor: int = -1
    access: str = "rwm"

    def __str__(self) -> str:
        numbers = ":".join("*" if number < 0 else str(number) for number in (self.major, self.minor))
        return f"{self.kind} {numbers} {self.access}"


def program(allowed: Sequence[Device]) -> bytes:
    """The instructions: one block per device that answers 1, or falls through to the next; at the end 0."""
    code = [
        _instruction(_LDXW, _ACCESS, _CONTEXT, 0),
        _instruction(_MOVR, _KIND, _ACCESS),
        _instruction(_AND, _KIND, constant=0xFFFF),
        _instruction(_RSH, _ACCESS, constant=16),
        _instruction(_LDXW, _MAJOR, _CONTEXT, 4),
        _instruction(_LDXW, _MINOR, _CONTEXT, 8),
    ]
    for device in allowed:
        code += _block(device)
    return b"".join([*code, _instruction(_MOV, _ANSWER, constant=0), _instruction(_EXIT)])


def allow_only(cgroup: Path, allowed: Sequence[Device]) -> None:
    """Load the program and attach it to the cgroup."""
    loaded = _load(program(allowed))
    folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _bpf(_PROG_ATTACH, struct.pack("=IIII", folder, loaded, _ATTACH_CGROUP_DEVICE, _ATTACH_ALLOW_MULTI))
    finally:
        os.close(folder)
        os.close(loaded)


def _block(device: Device) -> list[bytes]:
    refused = 7 - sum(_ACCESSES[letter] for letter in device.access)
    tests = [(_JNE, _KIND, _KINDS[device.kind])]
    if refused:
        tests.append((_JSET, _ACCESS, refused))
    tests += [(_JNE, register, number) for register, number in ((_MAJOR, device.major), (_MINOR, device.minor)) if number >= 0]
    length = len(tests) + 2
    block = [
        _instruction(opcode, register, offset=length - 1 - place, constant=value) for place, (opcode, register, value) in enumerate(tests)
    ]
    return [*block, _instruction(_MOV, _ANSWER, constant=1), _instruction(_EXIT)]


def _instruction(opcode: int, to: int = 0, source: int = 0, offset: int = 0, constant: int = 0) -> bytes:
    return struct.pack("=BBhi", opcode, to | source << 4, offset, constant)


def _load(code: bytes) -> int:
    instructions, license_ = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "=IIQQIIQII", _PROG_TYPE_CGROUP_DEVICE, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(license_), 0, 0, 0, 0, 0
    )
    return _bpf(_PROG_LOAD, attributes)


def _bpf(command: int, attributes: bytes) -> int:
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise ProviderError(f"device lists are not known for {platform.machine()}")
    buffer = ctypes.create_string_buffer(attributes, 128)  # the kernel takes a longer one if the rest is zero
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.syscall(ctypes.c_long(number), ctypes.c_int(command), buffer, ctypes.c_uint(128))
    if done < 0:
        error = ctypes.get_errno()
        raise ProviderError(f"the list of a machine's devices can't be set: bpf: {os.strerror(error)}")
    return int(done)
