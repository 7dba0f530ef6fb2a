"""What reaches the host is refused to a machine's root too, and nothing else changes."""

from __future__ import annotations

import errno
import platform
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from labctl.providers.namespace.inside import filter
from tests.namespaces import needs_root

TRY = """
import ctypes, os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from labctl.providers.namespace.inside import filter
libc = ctypes.CDLL(None, use_errno=True)
SIZE = 10
before = libc.klogctl(SIZE, None, 0)
filter.refuse_host_calls()
after = libc.klogctl(SIZE, None, 0)
refused = ctypes.get_errno()
child = subprocess.run([sys.executable, "-c", "import ctypes; print(ctypes.CDLL(None).klogctl(10, None, 0))"], capture_output=True, text=True)
print(before > 0, after, refused, child.stdout.strip(), os.getpid() > 0)
"""
ALLOW, REFUSE, ABSENT = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS

TRY_MORE = """
import ctypes, errno, os, socket, sys
sys.path.insert(0, sys.argv[1])
from labctl.providers.namespace.inside import filter
filter.refuse_host_calls()
libc = ctypes.CDLL(None, use_errno=True)
def said(call, *arguments):
    ctypes.set_errno(0)
    libc.syscall(call, *arguments)
    return errno.errorcode.get(ctypes.get_errno(), "done")
ioctl, keyctl = {"x86_64": (16, 250), "aarch64": (29, 219)}[os.uname().machine]
print(*(said(ioctl, -1, command) for command in (0xC0045877, 0x8004587D, 0x40086610, 0x50009403, 0x40049409, 0x5401)))
print(said(keyctl, 0, -3, 0))
try:
    socket.socket(40, socket.SOCK_STREAM)
except OSError as error:
    print(errno.errorcode[error.errno])
print(socket.socket(socket.AF_UNIX) is not None, os.isatty(0))
"""


@pytest.mark.root
@needs_root
def test_the_kernels_log_is_refused_to_a_process_and_to_what_it_starts() -> None:
    done = subprocess.run([sys.executable, "-c", TRY, str(Path(__file__).parents[2])], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "-1", "1", "-1", "True"], done.stderr


@pytest.mark.root
@needs_root
def test_what_a_whole_file_system_the_hosts_keys_and_the_hypervisor_are_asked_for_is_refused() -> None:
    """On no file at all: what is let through finds that out."""
    done = subprocess.run(
        [sys.executable, "-c", TRY_MORE, str(Path(__file__).parents[2])], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    freeze, shut_down, resize, snapshot, clone, terminal = done.stdout.splitlines()[0].split()
    assert {freeze, shut_down, resize, snapshot} == {"EPERM"} and {clone, terminal} == {"EBADF"}, done
    assert done.stdout.splitlines()[1:] == ["ENOSYS", "EPERM", "True False"], done


def answer(code: bytes, architecture: int, number: int, first: int = 0, second: int = 0) -> int:
    """What the kernel would answer."""
    place, accumulator = 0, 0
    while True:
        opcode, then, otherwise, constant = struct.unpack_from("=HBBI", code, place * 8)
        place += 1
        if opcode == 0x20:
            accumulator = {0: number, 4: architecture, 16: first, 24: second}[constant]
        elif opcode == 0x06:
            return constant
        elif opcode == 0x54:
            accumulator &= constant
        else:
            holds = {0x15: accumulator == constant, 0x25: accumulator > constant, 0x35: accumulator >= constant}[opcode]
            place += then if holds else otherwise


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_each_refused_call_is_refused_on_each_architecture_and_no_other_is(machine: str) -> None:
    code = filter.program(machine)
    for architecture in filter._ARCHITECTURES[machine]:
        refused = {numbers[architecture] for numbers in filter.REFUSED.values() if architecture in numbers}
        assert {number for number in range(1000) if answer(code, architecture, number) == REFUSE} == refused
        absent = {numbers[architecture] for numbers in filter.ABSENT.values()}
        assert {number for number in range(1000) if answer(code, architecture, number) == ABSENT} == absent
    assert answer(code, 0x1234, 1) == REFUSE, "of an architecture that is not this machine's"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_commands_for_a_whole_file_system_are_refused_and_no_others(machine: str) -> None:
    code = filter.program(machine)
    wanted = {number for first, last in filter.DISK_COMMANDS for number in range(first, last + 1)}
    for architecture in filter._ARCHITECTURES[machine]:
        ioctl, socket = filter._IOCTL[architecture], filter._SOCKET[architecture]
        assert {low for low in range(0x10000) if answer(code, architecture, ioctl, second=0xC0040000 | low) == REFUSE} == wanted
        assert {family for family in range(64) if answer(code, architecture, socket, first=family) == REFUSE} == {40}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_where_the_kernel_judges_no_better_programs_are_refused(machine: str) -> None:
    plain, code = filter.program(machine), filter.program(machine, ["bpf"])
    for architecture in filter._ARCHITECTURES[machine]:
        assert answer(code, architecture, filter._BPF[architecture]) == REFUSE
        assert answer(plain, architecture, filter._BPF[architecture]) == ALLOW


def test_the_same_calls_under_x32_numbers_are_refused() -> None:
    assert answer(filter.program("x86_64"), 0xC000003E, 103 | 0x40000000) == REFUSE


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64")
def test_the_numbers_are_the_kernels() -> None:
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip("no kernel headers")
    numbers = {line.split()[1].removeprefix("__NR_"): int(line.split()[2]) for line in header.read_text().splitlines() if "__NR_" in line}
    for name, known in {
        **filter.REFUSED,
        **filter.ABSENT,
        "socket": filter._SOCKET,
        "ioctl": filter._IOCTL,
        "bpf": filter._BPF,
    }.items():
        assert numbers.get(name, known[0xC000003E]) == known[0xC000003E]
