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
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM


@pytest.mark.root
@needs_root
def test_the_kernels_log_is_refused_to_a_process_and_to_what_it_starts() -> None:
    done = subprocess.run([sys.executable, "-c", TRY, str(Path(__file__).parents[2])], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "-1", "1", "-1", "True"], done.stderr


def answer(code: bytes, architecture: int, number: int) -> int:
    """What the kernel would answer."""
    place, accumulator = 0, 0
    while True:
        opcode, then, otherwise, constant = struct.unpack_from("=HBBI", code, place * 8)
        place += 1
        if opcode == 0x20:
            accumulator = {0: number, 4: architecture}[constant]
        elif opcode == 0x06:
            return constant
        else:
            place += then if (accumulator == constant if opcode == 0x15 else accumulator >= constant) else otherwise


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_each_refused_call_is_refused_on_each_architecture_and_no_other_is(machine: str) -> None:
    code = filter.program(machine)
    for architecture in filter._ARCHITECTURES[machine]:
        refused = {numbers[architecture] for numbers in filter.REFUSED.values() if architecture in numbers}
        assert {number for number in range(1000) if answer(code, architecture, number) == REFUSE} == refused
    assert answer(code, 0x1234, 1) == REFUSE, "of an architecture that is not this machine's"


def test_the_same_calls_under_x32_numbers_are_refused() -> None:
    assert answer(filter.program("x86_64"), 0xC000003E, 103 | 0x40000000) == REFUSE


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64")
def test_the_numbers_are_the_kernels() -> None:
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip("no kernel headers")
    numbers = {line.split()[1].removeprefix("__NR_"): int(line.split()[2]) for line in header.read_text().splitlines() if "__NR_" in line}
    for name, known in filter.REFUSED.items():
        assert numbers.get(name, known[0xC000003E]) == known[0xC000003E]
