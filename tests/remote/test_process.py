"""The SSH process: what only the real one does. The contract is in tests/contract/test_remote.py."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from labctl.errors import Deadline, HostKeyMismatch, RemoteError, Unreachable
from labctl.journal import MemoryJournal
from labctl.remote.interface import Terminal
from labctl.remote.process import SshProcess
from labctl.remote.settings import RemoteSettings
from tests.remote.sshd import Sshd

SOON_S = 10.0


async def test_a_killed_process_fails_what_is_under_way_and_comes_back(server: Sshd, remote: SshProcess) -> None:
    connections: asyncio.Queue[str] = asyncio.Queue()
    remote.listen(lambda name, method, params: connections.put_nowait(method))
    await remote.connect(server.target("minion-1"))
    assert await connections.get() == "connected"
    slow = asyncio.create_task(remote.run("minion-1", ["sleep", "60"]))
    stream = await remote.open("minion-1", ["cat"])
    first = remote.pid
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(SOON_S):
        with pytest.raises(Unreachable, match="signal 9"):
            await slow
        with pytest.raises(Unreachable):
            [data async for data in stream.read()]
        assert await connections.get() == "lost"
        assert await connections.get() == "connected"  # by itself: nobody asked
    assert (await remote.run("minion-1", ["echo", "on"])).stdout == b"on\n"
    assert remote.pid not in (0, first)


async def test_it_ends_with_its_master(server: Sshd, remote: SshProcess) -> None:
    await remote.connect(server.target("minion-1"))
    pid = remote.pid
    await remote.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(Unreachable):
        await remote.run("minion-1", ["true"])


async def test_a_machine_that_stands_still_holds_up_no_other(server: Sshd, remote: SshProcess) -> None:
    """It takes nothing any more, as behind a cut link: what waits for it, waits alone."""
    await remote.connect(server.target("minion-1"))
    stream = await remote.open("minion-1", ["cat"])
    still = server.connections()
    await remote.connect(server.target("minion-2"))
    for pid in still:
        os.kill(pid, signal.SIGSTOP)
    try:
        writing = asyncio.create_task(stream.write(bytes(32 << 20)))
        calling = asyncio.create_task(remote.run("minion-1", ["cat"], stdin=bytes(8 << 20), deadline_s=2))
        await asyncio.wait([writing], timeout=0.5)
        await stream.resize(10, 10)
        await stream.close()
        async with asyncio.timeout(SOON_S):
            for _ in range(10):
                assert (await remote.run("minion-2", ["echo", "quick"], deadline_s=1)).stdout == b"quick\n"
            with pytest.raises(Deadline):
                await calling
            await remote.forget("minion-1")
            await remote.connect(server.target("minion-1", generation="boot-2"))
        await writing
    finally:
        for pid in still:
            os.kill(pid, signal.SIGCONT)


async def test_a_refused_key_is_not_tried_again(server: Sshd, remote: SshProcess) -> None:
    with pytest.raises(HostKeyMismatch, match="SHA256:"):
        await remote.connect(server.target("minion-1", key="other_key"))
    server.stop()  # who tried again would find nobody
    for _ in range(3):
        with pytest.raises(HostKeyMismatch):
            await remote.run("minion-1", ["true"])


@pytest.mark.parametrize("host_key", ["", "ssh-ed25519", "ssh-ed25519 AAAA", "nonsense AAAA"])
async def test_without_a_pinned_key_nothing_is_accepted(server: Sshd, remote: SshProcess, host_key: str) -> None:
    with pytest.raises(HostKeyMismatch, match="pinned"):
        await remote.connect(msgspec.structs.replace(server.target("minion-1"), host_key=host_key))


async def test_a_key_that_sshd_does_not_know(server: Sshd, remote: SshProcess) -> None:
    target = server.target("minion-1")
    with pytest.raises(Unreachable, match="does not accept the lab's key"):
        await remote.connect(msgspec.structs.replace(target, key_path=str(server.folder / "other_key")))
    with pytest.raises(Unreachable, match="can't be read"):
        await remote.connect(msgspec.structs.replace(target, key_path=str(server.folder / "nowhere")))


async def test_a_machine_that_comes_up_later_is_found(server: Sshd, remote: SshProcess) -> None:
    server.stop()
    told: asyncio.Queue[str] = asyncio.Queue()
    remote.listen(lambda name, method, params: told.put_nowait(method))
    with pytest.raises(Unreachable):
        await remote.connect(server.target("minion-1"))
    server.start()
    async with asyncio.timeout(SOON_S):
        assert await told.get() == "connected"


async def test_a_terminal_has_a_size_and_a_resize(server: Sshd, remote: SshProcess) -> None:
    await remote.connect(server.target("minion-1"))
    script = 'stty size; trap "stty size; exit 5" WINCH; echo ready; while :; do sleep 0.05; done'
    stream = await remote.open("minion-1", ["sh", "-c", script], terminal=Terminal(columns=100, rows=30))
    got = b""
    async with asyncio.timeout(SOON_S):
        async for _, data in stream.read():
            got += data
            if b"ready" in data:
                await stream.resize(132, 43)
    assert got.split() == [b"30", b"100", b"ready", b"43", b"132"]
    assert await stream.status() == 5


async def test_dialling_reaches_a_port_of_the_machine(server: Sshd, remote: SshProcess) -> None:
    await remote.connect(server.target("minion-1"))

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(shout, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        stream = await remote.dial("minion-1", "127.0.0.1", port)
        await stream.write(b"hello")
        await stream.end_input()
        assert b"".join([data async for _, data in stream.read()]) == b"HELLO"
        assert await stream.status() == 0


async def test_the_helper_is_one_process_until_it_is_reset(server: Sshd, remote: SshProcess) -> None:
    await remote.connect(server.target("minion-1"))
    first = await remote.call("minion-1", "pid", None)
    assert await remote.call("minion-1", "pid", None) == first
    remote.reset_helper("minion-1")
    assert await remote.call("minion-1", "pid", None) != first


async def test_a_helper_that_dies_says_why(server: Sshd, remote: SshProcess) -> None:
    await remote.connect(server.target("minion-1"))
    with pytest.raises(Unreachable, match="out of luck"):
        await remote.call("minion-1", "die", "out of luck")
    assert await remote.call("minion-1", "echo", 1) == 1


async def test_the_end_of_a_helper_is_told(server: Sshd, remote: SshProcess) -> None:
    told: asyncio.Queue[tuple[str, object]] = asyncio.Queue()
    remote.listen(lambda name, method, params: told.put_nowait((method, params)) if method == "helper" else None)
    await remote.connect(server.target("minion-1"))
    pid = await remote.call("minion-1", "pid", None)
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(SOON_S):
        assert await told.get() == ("helper", {"state": "ended"})


async def test_streams_have_a_bound(server: Sshd, journal: MemoryJournal) -> None:
    remote = SshProcess(RemoteSettings(streams_most=2), journal)
    try:
        await remote.connect(server.target("minion-1"))
        streams = [await remote.open("minion-1", ["cat"]) for _ in range(2)]
        with pytest.raises(RemoteError, match="2 streams are open already"):
            await remote.open("minion-1", ["cat"])
        await streams[0].end_input()
        assert await streams[0].status() == 0
        async with asyncio.timeout(SOON_S):
            while True:  # its place is free soon after its status is known
                try:
                    await remote.open("minion-1", ["cat"])
                    break
                except RemoteError:
                    await asyncio.sleep(0.01)
    finally:
        await remote.close()


async def test_a_helper_that_talks_nonsense_is_ended(server: Sshd, remote: SshProcess) -> None:
    await remote.connect(server.target("minion-1"))
    with pytest.raises(Unreachable, match="no answer"):
        await remote.call("minion-1", "garbage", None)
    assert await remote.call("minion-1", "echo", 1) == 1


async def test_an_answer_has_a_bound(server: Sshd, journal: MemoryJournal) -> None:
    remote = SshProcess(RemoteSettings(answer_max_bytes=1000), journal)
    try:
        await remote.connect(server.target("minion-1"))
        with pytest.raises(Exception, match="more than 1000 bytes"):
            await remote.run("minion-1", ["head", "-c", "1001", "/dev/zero"])
    finally:
        await remote.close()


async def test_idle_stream_connections_are_closed(server: Sshd, journal: MemoryJournal) -> None:
    remote = SshProcess(RemoteSettings(stream_idle_s=0.05), journal)
    try:
        await remote.connect(server.target("minion-1"))
        stream = await remote.open("minion-1", ["true"])
        await stream.status()
        async with asyncio.timeout(SOON_S):
            while _connections(remote.pid, server.port) != 1:
                await asyncio.sleep(0.02)
    finally:
        await remote.close()


def _connections(pid: int, port: int) -> int:
    """Established ones of the process to that port."""
    inodes = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()}
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    found = [line.split() for line in lines]
    return sum(f"socket:[{line[9]}]" in inodes and line[2].endswith(f":{port:04X}") for line in found)


@pytest.fixture
def namespace() -> Iterator[int]:
    """The pid of a process in a network namespace of its own."""
    process = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 60"], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"up\n"
    yield process.pid
    process.kill()
    process.wait()


@pytest.mark.root
async def test_it_lives_in_the_labs_network_namespace(namespace: int, server: Sshd, journal: MemoryJournal) -> None:
    remote = SshProcess(RemoteSettings(), journal, network_namespace=f"/proc/{namespace}/ns/net")
    try:
        with pytest.raises(Unreachable, match="refused"):  # sshd listens on loopback, but of the other namespace
            await remote.connect(server.target("minion-1"))
        assert os.readlink(f"/proc/{remote.pid}/ns/net") == os.readlink(f"/proc/{namespace}/ns/net")
        for task in os.listdir(f"/proc/{remote.pid}/task"):
            assert os.readlink(f"/proc/{remote.pid}/task/{task}/ns/net") == os.readlink(f"/proc/{namespace}/ns/net")
    finally:
        await remote.close()
    socket.create_connection(("127.0.0.1", server.port)).close()
