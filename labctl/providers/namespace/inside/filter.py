"""What no capability stands for: the kernel's log is the host's, yet whoever may mount could read and clear it, in kernels before 6.10.

A seccomp program for this process and all that it will ever start: it answers the one system call with EPERM and lets all others pass.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SYSLOG = {
    "x86_64": ((0xC000003E, 103), (0x40000003, 103)),
    "aarch64": ((0xC00000B7, 116), (0x40000028, 103)),
}
"""(audit architecture, number of syslog there): the machine's own, and that of its 32-bit programs."""
_SET_MODE_FILTER, _SPEC_ALLOW = 1, 4  # the second: no slower speculation for it, which some kernels choose for filtered processes
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in what the program is asked about
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM


def refuse_kernel_log() -> None:
    """Needs CAP_SYS_ADMIN, as its caller has. Raises OSError."""
    code = program(platform.machine())
    instructions = ctypes.create_string_buffer(code)
    described = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(instructions)))
    libc = ctypes.CDLL(None, use_errno=True)
    number = ctypes.c_long(_SECCOMP[platform.machine()])
    if libc.syscall(number, ctypes.c_uint(_SET_MODE_FILTER), ctypes.c_uint(_SPEC_ALLOW), described) != 0:
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")


def program(machine: str) -> bytes:
    """For each architecture: is the call of it, and is it syslog? then refuse; else on to the next; at the end allow."""
    code = b""
    for architecture, number in _SYSLOG[machine]:
        code += _instruction(_LOAD, constant=_ARCHITECTURE) + _instruction(_EQUAL, otherwise=3, constant=architecture)
        code += _instruction(_LOAD, constant=_NUMBER) + _instruction(_EQUAL, otherwise=1, constant=number)
        code += _instruction(_RETURN, constant=_REFUSE)
    return code + _instruction(_RETURN, constant=_ALLOW)


def _instruction(opcode: int, then: int = 0, otherwise: int = 0, constant: int = 0) -> bytes:
    return struct.pack("=HBBI", opcode, then, otherwise, constant)
