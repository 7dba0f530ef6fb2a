"""A real sshd, and the SSH process that speaks to it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from labctl.clock import SystemClock
from labctl.journal import MemoryJournal
from labctl.remote.process import SshProcess
from labctl.remote.settings import RemoteSettings
from tests.remote import sshd

PYTHON = shutil.which("python3", path="/usr/bin") or sys.executable
HELPER = Path(__file__).parent / "helper.py"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[sshd.Sshd]:
    if sshd.PROGRAM is None:
        pytest.skip("needs openssh-server")
    with sshd.running(tmp_path) as running:
        yield running


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal(SystemClock())


@pytest.fixture
async def remote(journal: MemoryJournal) -> AsyncIterator[SshProcess]:
    process = SshProcess(RemoteSettings(helper=(PYTHON, str(HELPER))), journal)
    yield process
    await process.close()
