"""The kernel's log is out of reach, for root too, and nothing else changes."""

from __future__ import annotations

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
filter.refuse_kernel_log()
after = libc.klogctl(SIZE, None, 0)
refused = ctypes.get_errno()
child = subprocess.run([sys.executable, "-c", "import ctypes; print(ctypes.CDLL(None).klogctl(10, None, 0))"], capture_output=True, text=True)
print(before > 0, after, refused, child.stdout.strip(), os.getpid() > 0)
"""


@pytest.mark.root
@needs_root
def test_the_kernels_log_is_refused_to_a_process_and_to_what_it_starts() -> None:
    done = subprocess.run([sys.executable, "-c", TRY, str(Path(__file__).parents[2])], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "-1", "1", "-1", "True"], done.stderr


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_each_architecture_has_a_whole_program(machine: str) -> None:
    code = filter.program(machine)
    assert len(code) == 8 * 11
    assert code.endswith(bytes.fromhex("0600000000 00ff7f".replace(" ", "")))
