"""The way back: a port of the machine's loopback that leads to one of ours, for as long as there is a connection."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from labctl.errors import Unreachable
from labctl.journal import MemoryJournal
from labctl.remote.process import SshProcess
from labctl.remote.settings import RemoteSettings
from tests.remote.sshd import Sshd

SOON_S = 10.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
async def master() -> AsyncIterator[int]:
    """The port of something that answers, once it heard everything, with what it heard."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"heard " + await reader.read(-1))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def port() -> int:
    """On the machine."""
    return free_port()


@pytest.fixture
def noted() -> Iterator[None]:
    """Whose the port is, is written where the machine runs: here."""
    yield
    Path("/run/labctl-uplink").unlink(missing_ok=True)


@pytest.fixture
async def remote(journal: MemoryJournal, master: int, port: int, noted: None) -> AsyncIterator[SshProcess]:
    process = SshProcess(RemoteSettings(), journal)
    process.reverse(port, master)
    yield process
    await process.close()


async def ask(port: int, said: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    writer.write_eof()
    try:
        return await reader.read(-1)
    finally:
        writer.close()


async def test_both_ways_and_each_ends_by_itself(server: Sshd, remote: SshProcess, port: int) -> None:
    await remote.connect(server.target("minion-1"))
    large = os.urandom(3 << 20)
    async with asyncio.timeout(SOON_S):
        answers = await asyncio.gather(*(ask(port, word) for word in (b"one", large, b"")))
    assert answers == [b"heard one", b"heard " + large, b"heard "]


async def test_it_is_there_again_after_the_connection_was_lost(server: Sshd, remote: SshProcess, port: int) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    remote.listen(lambda _name, method, _params: told.put_nowait(method))
    await remote.connect(server.target("minion-1"))
    server.cut()
    async with asyncio.timeout(SOON_S):
        while await told.get() != "lost":
            pass
        assert await told.get() == "connected"
        assert await ask(port, b"again") == b"heard again"


async def test_a_connection_that_nobody_ended_gives_the_port_up(
    server: Sshd, remote: SshProcess, journal: MemoryJournal, master: int, port: int
) -> None:
    """As after a laptop's sleep: the machine's sshd believes in the old connection for hours."""
    await remote.connect(server.target("minion-1"))
    os.kill(remote.pid, signal.SIGSTOP)
    after = SshProcess(RemoteSettings(), journal)
    after.reverse(port, master)
    try:
        await after.connect(server.target("minion-1"))
        async with asyncio.timeout(SOON_S):
            assert await ask(port, b"me") == b"heard me"
    finally:
        os.kill(remote.pid, signal.SIGCONT)
        await after.close()


async def test_a_port_that_is_somebody_elses_stays_theirs(server: Sshd, remote: SshProcess, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as theirs:
        with pytest.raises(Unreachable, match=f"port {port} of its loopback is taken"):
            await remote.connect(server.target("minion-1"))
        with socket.create_connection(("127.0.0.1", port), 1), theirs.accept()[0]:
            pass
