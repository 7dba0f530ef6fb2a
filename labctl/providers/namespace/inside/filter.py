"""Refuses system calls that reach the host and that no capability controls. A machine's root may mount, because pods need it, so the filter
must.

It is a seccomp program for this process and all that it will ever start: it answers these calls with EPERM and allows all others.
It looks only at the number of the call and at arguments that are plain numbers, for the machine's own programs and its 32-bit ones, because memory that
a pointer leads to can change after the check.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

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

ABSENT: Mapping[str, Mapping[int, int]] = {
    # keys of the host's root are also those of a machine's, and a request for a missing one starts a program of the host's
    "add_key": {_X86_64: 248, _I386: 286, _AARCH64: 217, _ARM: 309},
    "request_key": {_X86_64: 249, _I386: 287, _AARCH64: 218, _ARM: 310},
    "keyctl": {_X86_64: 250, _I386: 288, _AARCH64: 219, _ARM: 311},
}
"""Calls that are answered with ENOSYS, as by a kernel without them: container runtimes and logins ask for a keyring and go on without one."""

_SOCKET: Mapping[int, int] = {_X86_64: 41, _I386: 359, _AARCH64: 198, _ARM: 281}
_IOCTL: Mapping[int, int] = {_X86_64: 16, _I386: 54, _AARCH64: 29, _ARM: 54}
_BPF: Mapping[int, int] = {_X86_64: 321, _I386: 357, _AARCH64: 280, _ARM: 386}
_VSOCK = 40
"""Sockets to the hypervisor and to what listens there belong to no network namespace."""

DISK_COMMANDS: tuple[tuple[int, int], ...] = (
    (0x5864, 0x587F),  # 'X' from 100 on: freeze, thaw, trim, shut down; XFS's own
    (0x6606, 0x6611),  # 'f': extend, add a group, migrate, free blocks, resize, exchange the boot loader's file
    (0x6628, 0x662C),  # 'f': states of ext4, its checkpoint, its UUID
    (0x9400, 0x9408), (0x940A, 0x940C), (0x940E, 0x9435), (0x9437, 0x94FF),  # btrfs, without the clones and comparisons that all file systems have
)  # fmt: skip
"""The first and the last number (type and command, the low 16 bits) of ioctls that change a whole file system: a machine's storage is a folder of the host's."""

_X32_BIT = 0x40000000
_SET_MODE_FILTER, _SPEC_ALLOW = 1, 4  # the second keeps the processor's speculation, which some kernels turn off for filtered processes
_LOAD, _EQUAL, _AT_LEAST, _ABOVE, _AND, _RETURN = 0x20, 0x15, 0x35, 0x25, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24  # offsets in the record that the program gets; little-endian
_ALLOW, _REFUSE, _NONE_SUCH = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS


def refuse_host_calls(also: Collection[str] = ()) -> None:
    """Install the filter, which refuses the calls of `also` besides (`bpf`). The caller needs CAP_SYS_ADMIN. Raises OSError."""
    code = program(os.uname().machine, also)
    instructions = ctypes.create_string_buffer(code)
    described = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(instructions)))
    libc = ctypes.CDLL(None, use_errno=True)
    number = ctypes.c_long(_SECCOMP[os.uname().machine])
    if libc.syscall(number, ctypes.c_uint(_SET_MODE_FILTER), ctypes.c_uint(_SPEC_ALLOW), described) != 0:
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")


def program(machine: str, also: Collection[str] = ()) -> bytes:
    """Return the program. `also` may name `bpf`, for hosts whose kernel can't tell one BPF program from another (labctl/providers/namespace/hooks.py).

    For each architecture it compares the call's number with the refused ones, and the arguments of two, and then allows it; other architectures are refused.
    """
    code = _instruction(_LOAD, constant=_ARCHITECTURE)
    for architecture in _ARCHITECTURES[machine]:
        block = _block(architecture, also)
        code += _instruction(_EQUAL, otherwise=len(block) // 8, constant=architecture) + block
    return code + _instruction(_RETURN, constant=_REFUSE)


class _Step(NamedTuple):
    """One instruction. Without a label it goes on with the next; labels name steps further on."""

    opcode: int
    constant: int
    then: str = ""
    otherwise: str = ""


def _block(architecture: int, also: Collection[str]) -> bytes:
    """Return the program of one architecture."""
    tests = [_Step(_EQUAL, numbers[architecture], "refuse") for numbers in REFUSED.values() if architecture in numbers]
    tests += [_Step(_EQUAL, numbers[architecture], "absent") for numbers in ABSENT.values() if architecture in numbers]
    if architecture == _X86_64:
        tests.append(_Step(_AT_LEAST, _X32_BIT, "refuse"))  # x32 has the same calls under other numbers
    if "bpf" in also:
        tests.append(_Step(_EQUAL, _BPF[architecture], "refuse"))
    commands: list[_Step | str] = []
    for number, (first, last) in enumerate(DISK_COMMANDS):
        commands += [_Step(_AT_LEAST, first, otherwise=f"after {number}"), _Step(_ABOVE, last, otherwise="refuse"), f"after {number}"]
    return _assembled([
        _Step(_LOAD, _NUMBER),
        *tests,
        _Step(_EQUAL, _SOCKET[architecture], "socket"),
        _Step(_EQUAL, _IOCTL[architecture], "ioctl", "allow"),
        "socket",
        _Step(_LOAD, _FIRST_ARGUMENT),
        _Step(_EQUAL, _VSOCK, "refuse", "allow"),
        "ioctl",
        _Step(_LOAD, _SECOND_ARGUMENT),
        _Step(_AND, 0xFFFF),
        *commands,
        "allow",
        _Step(_RETURN, _ALLOW),
        "refuse",
        _Step(_RETURN, _REFUSE),
        "absent",
        _Step(_RETURN, _NONE_SUCH),
    ])  # fmt: skip


def _assembled(program_: Sequence[_Step | str]) -> bytes:
    """Return the instructions of the steps; a text is the label of the step behind it."""
    steps: list[_Step] = []
    places: dict[str, int] = {}
    for each in program_:
        if isinstance(each, str):
            places[each] = len(steps)
        else:
            steps.append(each)

    def over(place: int, label: str) -> int:
        return places[label] - place - 1 if label else 0

    return b"".join(
        _instruction(step.opcode, over(at, step.then), over(at, step.otherwise), step.constant) for at, step in enumerate(steps)
    )


def _instruction(opcode: int, then: int = 0, otherwise: int = 0, constant: int = 0) -> bytes:
    return struct.pack("=HBBI", opcode, then, otherwise, constant)
