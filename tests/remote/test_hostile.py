"""Whoever is root on one machine speaks for its helper and its sshd: it may harm its own connection, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest

from labctl.clock import SystemClock
from labctl.errors import Deadline, RemoteError, Unreachable
from labctl.journal import MemoryJournal
from labctl.remote.interface import Target
from labctl.remote.process import SshProcess
from labctl.remote.settings import RemoteSettings
from labctl.supervisor import Supervisor
from tests.remote.sshd import Sshd

SOON_S = 10.0

REFUSED = {
    "it is connected": {"method": "connected", "params": {}},
    "it is connected, with a generation": {"method": "connected", "params": {"generation": "boot", "took_s": 1}},
    "it is lost": {"method": "lost", "params": {"generation": "boot", "reason": "x"}},
    "its helper ended": {"method": "helper", "params": {"state": "ended"}},
    "a method of nobody": {"method": "reboot", "params": {}},
    "no method": {"params": {}},
    "null for params": {"method": "digest", "params": None},
    "a list for params": {"method": "digest", "params": []},
    "null for rules": {"method": "digest", "params": {"rules": None}},
    "a list for rules": {"method": "digest", "params": {"rules": [1]}},
    "rules without end": {"method": "digest", "params": {"rules": "x" * 900}},
    "a forwarder of another state": {"method": "digest", "params": {"forwarder": "happy"}},
    "a long frame": {"method": "digest", "params": {"x": "y" * 10_000}},
    "no object": [1, 2, 3],
}


@pytest.mark.parametrize("said", REFUSED.values(), ids=REFUSED.keys())
async def test_what_a_helper_may_not_say_ends_that_helper_alone(server: Sshd, remote: SshProcess, said: Any) -> None:
    told: list[tuple[str, str, Any]] = []
    remote.listen(lambda *heard: told.append(heard))
    for name in ("minion-1", "minion-2"):
        await remote.connect(server.target(name))
    pid = remote.pid
    with pytest.raises(RemoteError):
        await remote.call("minion-1", "say", {"body": json.dumps(said)})
        await remote.call("minion-1", "echo", 1)
    assert await remote.call("minion-2", "echo", 2) == 2
    assert await remote.call("minion-1", "echo", 3) == 3, "another helper was started"
    assert remote.pid == pid
    assert all(remote.connected(name) for name in ("minion-1", "minion-2"))
    assert [method for _, method, _ in told] == ["connected", "connected", "helper"]
    assert told[2][0] == "minion-1"


async def test_a_deeply_nested_answer_is_refused(server: Sshd, remote: SshProcess) -> None:
    await remote.connect(server.target("minion-1"))
    body = '{"id": 1, "result": ' + "[" * 200_000 + "]" * 200_000 + "}"
    with pytest.raises(RemoteError):
        await remote.call("minion-1", "say", {"body": body})
    assert await remote.call("minion-1", "echo", 1) == 1


def test_a_large_answer_of_small_values_costs_no_memory() -> None:
    """Under a bound on memory: 30 MB of brackets would be 2 GB of lists."""
    program = """
import resource, sys
from labctl.errors import RemoteError
from labctl.remote import wire
data = b"[" + b"[]," * 10_000_000 + b"[]]"
resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))
try:
    wire.decode_answer("minion-1", "dump", data)
except RemoteError as error:
    sys.exit(0 if "values" in str(error) else 2)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


async def test_a_helper_that_never_stops_talking_holds_up_nobody(server: Sshd, remote: SshProcess) -> None:
    told: list[str] = []
    remote.listen(lambda name, method, params: told.append(method))
    for name in ("minion-1", "minion-2"):
        await remote.connect(server.target(name))
    digest = json.dumps({"method": "digest", "params": {"rules": "abc"}})
    talking = asyncio.create_task(remote.call("minion-1", "say", {"body": digest, "times": 100_000}, deadline_s=3))
    began = time.monotonic()
    for _ in range(20):
        assert await remote.call("minion-2", "echo", 1, deadline_s=1) == 1
    with pytest.raises(Deadline):
        await talking
    assert told.count("digest") <= 20 * (time.monotonic() - began + 2)


async def test_a_helper_that_ends_again_and_again_is_started_more_slowly(server: Sshd, journal: MemoryJournal) -> None:
    from tests.remote.conftest import HELPER, PYTHON

    settings = RemoteSettings(helper=(PYTHON, str(HELPER)), helper_starts_most=3, helper_starts_s=2.0)
    remote = SshProcess(settings, journal)
    try:
        await remote.connect(server.target("minion-1"))
        for _ in range(3):
            with pytest.raises(Unreachable):
                await remote.call("minion-1", "die", "again")
        with pytest.raises(RemoteError, match="its helper ended 3 times"):
            await remote.call("minion-1", "echo", 1)
        async with asyncio.timeout(SOON_S):
            while True:
                try:
                    assert await remote.call("minion-1", "echo", 1) == 1
                    break
                except RemoteError:
                    await asyncio.sleep(0.05)
    finally:
        await remote.close()


async def test_an_error_of_a_helper_is_bounded_and_steers_no_terminal(server: Sshd, remote: SshProcess) -> None:
    await remote.connect(server.target("minion-1"))
    with pytest.raises(RemoteError) as refused:
        await remote.call("minion-1", "refuse", "\x1b]0;owned\x07" + "x" * 100_000)
    assert "\x1b" not in refused.value.message and "\x07" not in refused.value.message
    assert len(refused.value.message) < 3000


# -- sshd


@pytest.fixture
def silent_sshd() -> Iterator[int]:
    """The port of something that begins as sshd does and then says nothing more, as a machine that stands still or means harm."""
    listening = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
                accepted.append(connection)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    for connection in accepted:
        connection.close()


async def connected(remote: SshProcess, target: Target) -> None:
    """Tries until it is: a busy host may take longer than a deadline that is short on purpose."""
    while True:
        try:
            return await remote.connect(target)
        except RemoteError:
            await asyncio.sleep(0.1)


@pytest.fixture
def slow_sshd(server: Sshd) -> Iterator[int]:
    """The port of the real sshd as an emulated machine on a busy host has it: it answers, but only after a second."""
    listening = socket.create_server(("127.0.0.1", 0))

    def carry(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def serve(connection: socket.socket) -> None:
        with connection, socket.create_connection(("127.0.0.1", server.target("minion-1").port)) as sshd:
            time.sleep(1)
            threading.Thread(target=carry, args=(connection, sshd), daemon=True).start()
            carry(sshd, connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


async def test_a_machine_whose_sshd_is_slow_is_given_longer_with_each_attempt(server: Sshd, slow_sshd: int, journal: MemoryJournal) -> None:
    """Attempts that all ended after the same time were all in vain, and each cost the machine another process."""
    remote = SshProcess(RemoteSettings(connect_deadline_s=0.3), journal)
    try:
        target = msgspec.structs.replace(server.target("minion-1"), port=slow_sshd)
        async with asyncio.timeout(3 * SOON_S):
            while not remote.connected("minion-1"):
                with contextlib.suppress(RemoteError):
                    await remote.connect(target)
    finally:
        await remote.close()


async def test_a_stream_to_a_machine_that_says_nothing_more_has_a_deadline(server: Sshd, silent_sshd: int, journal: MemoryJournal) -> None:
    settings = RemoteSettings(connect_deadline_s=0.5, open_deadline_s=1.0, stream_channels=1)
    remote = SshProcess(settings, journal)
    try:
        async with asyncio.timeout(60):
            await connected(remote, server.target("minion-2"))
        connecting = asyncio.gather(
            remote.connect(msgspec.structs.replace(server.target("minion-1"), port=silent_sshd)), return_exceptions=True
        )
        began = time.monotonic()
        with pytest.raises(RemoteError):
            await remote.open("minion-1", ["true"])
        assert time.monotonic() - began < 6
        assert isinstance((await connecting)[0], RemoteError)
        stream = await remote.open("minion-2", ["true"])
        assert await stream.status() == 0
    finally:
        await remote.close()


# -- our own mistakes


async def test_a_listener_that_fails_costs_nobody_the_news(server: Sshd, journal: MemoryJournal) -> None:
    supervisor = Supervisor(SystemClock(), journal)
    remote = SshProcess(RemoteSettings(), journal, supervisor=supervisor)
    told: list[str] = []
    remote.listen(lambda *_heard: 1 / 0)
    remote.listen(lambda _name, method, _params: told.append(method))
    try:
        await remote.connect(server.target("minion-1"))
        assert told == ["connected"]
        assert (await remote.run("minion-1", ["echo", "on"])).stdout == b"on\n"
        assert [one.mistakes for one in supervisor.health() if one.name == "listeners-to-minion-1"] == [1]
    finally:
        await remote.close()


async def test_the_ssh_process_is_started_again_and_that_is_seen(server: Sshd, journal: MemoryJournal) -> None:
    import os
    import signal

    supervisor = Supervisor(SystemClock(), journal)
    remote = SshProcess(RemoteSettings(), journal, supervisor=supervisor)
    try:
        await remote.connect(server.target("minion-1"))
        for _ in range(3):
            os.kill(remote.pid, signal.SIGKILL)
            async with asyncio.timeout(SOON_S):
                while True:
                    try:
                        await remote.run("minion-1", ["true"])
                        break
                    except RemoteError:
                        await asyncio.sleep(0.02)
        assert "ssh-process was started again 3 times: the SSH process ended (signal 9)" in supervisor.trouble()
    finally:
        await remote.close()


@pytest.fixture
async def door(server: Sshd) -> AsyncIterator[Door]:
    async with Door(server.port) as door:
        yield door


class Door:
    """Relays to the machine's sshd; connections above `most` are accepted and get no answer."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.most = 100
        self.port = 0
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Door:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count += 1
        if self._count > self.most:
            await reader.read()
            return
        from_sshd, to_sshd = await asyncio.open_connection("127.0.0.1", self.target)
        for source, target in ((reader, to_sshd), (from_sshd, writer)):
            task = asyncio.create_task(_relay(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _relay(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        target.write(data)
        await target.drain()
    target.close()


async def test_a_connection_that_is_being_opened_holds_up_nobody(server: Sshd, door: Door, journal: MemoryJournal) -> None:
    """A third connection to this machine gets no answer: who needs it waits for it, and nobody else."""
    remote = SshProcess(RemoteSettings(stream_channels=2, connect_deadline_s=3.0, open_deadline_s=8.0), journal)
    door.most = 2  # the control connection, and one for two streams
    try:
        await remote.connect(msgspec.structs.replace(server.target("minion-1"), port=door.port))
        first, second = [await remote.open("minion-1", ["cat"]) for _ in range(2)]
        third = asyncio.create_task(remote.open("minion-1", ["cat"]))
        done, _ = await asyncio.wait([third], timeout=0.3)
        assert not done
        async with asyncio.timeout(2):
            await first.end_input()
            assert await first.status() == 0
            assert (await remote.run("minion-1", ["echo", "quick"])).stdout == b"quick\n"
            while True:  # the place of the first is free soon after its status is known
                opened = asyncio.create_task(remote.open("minion-1", ["true"]))
                done, _ = await asyncio.wait([opened], timeout=0.1)
                if done:
                    break
                opened.cancel()
            assert await opened.result().status() == 0
        assert not third.done()
        with pytest.raises(RemoteError):
            await third
        await second.close()
    finally:
        await remote.close()
