"""Refuses system calls that reach the host and that no capability controls. A machine's root may mount, because pods need it, so the filter
must.

It is a seccomp program for this process and all that it will ever start: it answers these calls with EPERM and allows all others.
It looks only at the number of the call, for the machine's own programs and its 32-bit ones, because memory that a pointer leads to can
change after the check.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping

_SECCOMP = {"x86_64": 317, "aarch64": 277}
_X86_64, _I386, _AARCH64, _ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028  # audit architectures
_ARCHITECTURES = {"x86_64": (_X86_64, _I386), "aarch64": (_AARCH64, _ARM)}
REFUSED: Mapping[str, Mapping[int, int]] = {
    # the kernel's log belongs to the host, and before Linux 6.10 CAP_SYS_ADMIN is enough to clear it
    "syslog": {_X86_64: 103, _I386: 103, _AARCH64: 116, _ARM: 103},
    # it opens any file of a file system by its handle, also above the mounted folder, and a machine's storage is on the host's disk
    "open_by_handle_at": {_X86_64: 304, _I386: 342, _AARCH64: 265, _ARM: 371},
    "fanotify_init": {_X86_64: 300, _I386: 338, _AARCH64: 262, _ARM: 367},
    "quotactl": {_X86_64: 179, _I386: 131, _AARCH64: 60, _ARM: 131},
    "quotactl_fd": {_X86_64: 443, _I386: 443, _AARCH64: 443, _ARM: 443},
    # the host's memory, its kernel, and what other processes do
    "swapon": {_X86_64: 167, _I386: 87, _AARCH64: 224, _ARM: 87},
    "swapoff": {_X86_64: 168, _I386: 115, _AARCH64: 225, _ARM: 115},
    "kexec_load": {_X86_64: 246, _I386: 283, _AARCH64: 104, _ARM: 347},
    "kexec_file_load": {_X86_64: 320, _AARCH64: 294, _ARM: 401},
    "perf_event_open": {_X86_64: 298, _I386: 336, _AARCH64: 241, _ARM: 364},
}
"""Each call's name, with its number for each architecture that has it."""

_X32_BIT = 0x40000000
_SET_MODE_FILTER, _SPEC_ALLOW = 1, 4  # the second keeps the processor's speculation, which some kernels turn off for filtered processes
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in the record that the program gets
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM


def refuse_host_calls() -> None:
    """Install the filter. The caller needs CAP_SYS_ADMIN. Raises OSError."""
    code = program(platform.machine())
    instructions = ctypes.create_string_buffer(code)
    described = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(instructions)))
    libc = ctypes.CDLL(None, use_errno=True)
    number = ctypes.c_long(_SECCOMP[platform.machine()])
    if libc.syscall(number, ctypes.c_uint(_SET_MODE_FILTER), ctypes.c_uint(_SPEC_ALLOW), described) != 0:
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")


def program(machine: str) -> bytes:
    """Return the program.

    For each architecture it compares the call's number with the refused ones and then allows it; other architectures are refused.
    """
    code = _instruction(_LOAD, constant=_ARCHITECTURE)
    for architecture in _ARCHITECTURES[machine]:
        block = _block(architecture)
        code += _instruction(_EQUAL, otherwise=len(block) // 8, constant=architecture) + block
    return code + _instruction(_RETURN, constant=_REFUSE)


def _block(architecture: int) -> bytes:
    numbers = [numbers[architecture] for numbers in REFUSED.values() if architecture in numbers]
    tests = [(_EQUAL, number) for number in numbers]
    if architecture == _X86_64:
        tests.append((_AT_LEAST, _X32_BIT))  # x32 has the same calls under other numbers
    code = _instruction(_LOAD, constant=_NUMBER)
    for place, (opcode, number) in enumerate(tests):
        code += _instruction(opcode, then=len(tests) - place, constant=number)
    return code + _instruction(_RETURN, constant=_ALLOW) + _instruction(_RETURN, constant=_REFUSE)


def _instruction(opcode: int, then: int = 0, otherwise: int = 0, constant: int = 0) -> bytes:
    return struct.pack("=HBBI", opcode, then, otherwise, constant)
