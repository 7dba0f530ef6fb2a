"""Small BPF programs that the kernel calls for certain actions of a cgroup's processes. They are assembled here and attached to the cgroup.

They live as long as the cgroup, apply to every process in it and below it, and no process in it can detach them.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import ProviderError

_SYSCALL = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _PROG_ATTACH = 5, 8
_EXPECTED_PLACE, _FUNCTION = 68, 108  # offsets in what PROG_LOAD takes
_ALLOW_MULTI = 2  # container runtimes below may attach their own; all programs must allow an access

# opcodes: load eight bytes, a word, two bytes, one byte; store eight bytes; and/right-shift/add a constant; copy; jump if equal, if not, if any bit;
# the same of words; set; call; jump; exit
LDXDW, LDXW, LDXH, LDXB, STDW, AND, RSH, ADD, MOVR, JEQ, JNE, JSET, JEQW, JNEW, MOV, CALL, JA, EXIT = (
    0x79, 0x61, 0x69, 0x71, 0x7A, 0x57, 0x77, 0x07, 0xBF, 0x15, 0x55, 0x45, 0x16, 0x56, 0xB7, 0x85, 0x05, 0x95,
)  # fmt: skip
ANSWER, STACK = 0, 10  # registers


@dataclass(frozen=True)
class Question:
    """A kind of program: the number of its type, and of the place where it is attached."""

    program: int
    place: int
    function: int = 0  # the type number of the function that it stands before, where the place is any of many


DEVICE = Question(15, 6)
SYSCTL = Question(23, 18)


def hook(function: int) -> Question:
    """Return the question whether a function of the security modules (`bpf_lsm_NAME`) may go on."""
    return Question(29, 43, function)


def instruction(opcode: int, to: int = 0, source: int = 0, offset: int = 0, constant: int = 0) -> bytes:
    return struct.pack("=BBhi", opcode, to | source << 4, offset, constant)


def attach(cgroup: Path, question: Question, code: bytes) -> None:
    """Load the program and attach it to a version 2 cgroup. Raises ProviderError."""
    loaded = _load(question, code)
    folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _bpf(_PROG_ATTACH, struct.pack("=IIII", folder, loaded, question.place, _ALLOW_MULTI))
    finally:
        os.close(folder)
        os.close(loaded)


def _load(question: Question, code: bytes) -> int:
    """Load a program and return its descriptor.

    At its security hooks the kernel takes programs only under its own licence, so those are under either of two.
    """
    instructions = ctypes.create_string_buffer(code)
    license_ = ctypes.create_string_buffer(b"Dual MIT/GPL" if question.function else b"Apache-2.0")
    attributes = struct.pack("=IIQQ", question.program, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(license_))
    if question.function:
        attributes = attributes.ljust(_EXPECTED_PLACE, b"\0") + struct.pack("=I", question.place)
        attributes = attributes.ljust(_FUNCTION, b"\0") + struct.pack("=I", question.function)
    return _bpf(_PROG_LOAD, attributes)


def _bpf(command: int, attributes: bytes) -> int:
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise ProviderError(f"BPF programs are not known for {platform.machine()}")
    buffer = ctypes.create_string_buffer(attributes, 128)  # the kernel accepts a longer buffer if the rest is zero
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.syscall(ctypes.c_long(number), ctypes.c_int(command), buffer, ctypes.c_uint(128))
    if done < 0:
        raise ProviderError(f"bpf: {os.strerror(ctypes.get_errno())}")
    return int(done)
