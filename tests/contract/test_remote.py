"""What every Remote promises: on the fake, and on the SSH process with a real sshd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.clock import SystemClock
from labctl.errors import CommandFailed, Deadline, HostKeyMismatch, Unreachable
from labctl.journal import MemoryJournal
from labctl.remote.interface import Target
from labctl.remote.process import SshProcess
from labctl.remote.settings import RemoteSettings
from labctl.sim.remote import FakeHost, FakeRemote, Shell
from tests.remote import sshd

SOON_S = 10.0
PYTHON = shutil.which("python3", path="/usr/bin") or sys.executable  # the machine's own
HELPER = str(Path(__file__).parent.parent / "remote" / "helper.py")
"""Run, never imported: it serves on import."""


class Bench:
    """A Remote and the machine it may reach; `told` is what listeners heard. `runs` tells whether the machine has begun a command."""

    def __init__(
        self,
        remote: Any,
        target: Callable[..., Target],
        cut: Callable[[], None],
        down: Callable[[], None],
        runs: Callable[[list[str]], bool],
        folder: Path,
    ) -> None:
        self.remote = remote
        self.target = target
        self.cut = cut
        self.down = down
        self.runs = runs
        self.folder = folder
        self.told: list[tuple[str, str, Any]] = []
        self._changed = asyncio.Event()
        remote.listen(self._listen)

    def _listen(self, name: str, method: str, params: Any) -> None:
        self.told.append((name, method, params))
        self._changed.set()

    async def wait(self, method: str, count: int = 1) -> None:
        async with asyncio.timeout(SOON_S):
            while sum(told[1] == method for told in self.told) < count:
                self._changed.clear()
                await self._changed.wait()

    async def up(self, name: str = "minion-1") -> Any:
        await self.remote.connect(self.target(name))
        return self.remote


@pytest.fixture(params=["fake", "ssh"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    if request.param == "fake":
        yield fake_bench(tmp_path)
        return
    if sshd.PROGRAM is None:
        pytest.skip("needs openssh-server")
    settings = RemoteSettings(helper=(PYTHON, HELPER), stream_window_bytes=64 << 10)
    remote = SshProcess(settings, MemoryJournal(SystemClock()))
    with sshd.running(tmp_path) as server:
        try:
            yield Bench(remote, server.target, server.cut, server.stop, _is_a_process, tmp_path)
        finally:
            await remote.close()


def fake_bench(folder: Path) -> Bench:
    host = FakeHost(helper=answer, ports={("127.0.0.1", 7): echo_port})
    remote = FakeRemote({"10.0.0.1": host})

    async def answer_with_words(method: str, params: Any) -> Any:
        if method == "announce":
            remote.say("minion-1", "digest", params)
        return await answer(method, params)

    host.helper = answer_with_words

    def target(name: str, *, key: str = "host_key", generation: str = "boot-1") -> Target:
        return Target(
            name, "10.0.0.1", 22, "root", "", "ssh-ed25519 AAAAfake" if key == "host_key" else "ssh-ed25519 AAAAother", generation
        )

    def down() -> None:
        host.up = False

    return Bench(remote, target, lambda: remote.cut("minion-1"), down, lambda argv: argv in host.ran, folder)


def _is_a_process(argv: list[str]) -> bool:
    wanted = "\0".join(argv).encode() + b"\0"
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cmdline").read_bytes() == wanted:
                return True
    return False


async def answer(method: str, params: Any) -> Any:
    """helper.py's answers."""
    if method == "sleep":
        await asyncio.sleep(params)
    if method == "refuse":
        raise ValueError(params)
    return params


async def echo_port(shell: Shell) -> int:
    while data := await shell.read():
        await shell.write(data)
    return 0


# -- connecting


async def test_connect_tells_once(bench: Bench) -> None:
    remote = await bench.up()
    await bench.up()
    assert remote.connected("minion-1")
    assert [told[:2] for told in bench.told] == [("minion-1", "connected")]


async def test_another_host_key_is_refused(bench: Bench) -> None:
    with pytest.raises(HostKeyMismatch):
        await bench.remote.connect(bench.target("minion-1", key="other_key"))
    with pytest.raises(HostKeyMismatch):
        await bench.remote.run("minion-1", ["true"])
    assert not bench.remote.connected("minion-1")
    await bench.up()  # a new target, with the right key
    assert (await bench.remote.run("minion-1", ["true"])).status == 0


async def test_no_sshd_is_unreachable(bench: Bench) -> None:
    bench.down()
    with pytest.raises(Unreachable):
        await bench.up()


async def test_unknown_and_forgotten_machines_are_unreachable(bench: Bench) -> None:
    with pytest.raises(Unreachable):
        await bench.remote.run("nobody", ["true"])
    remote = await bench.up()
    await remote.forget("minion-1")
    await remote.forget("minion-1")
    assert not remote.connected("minion-1")
    with pytest.raises(Unreachable):
        await remote.run("minion-1", ["true"])


async def test_another_generation_is_another_connection(bench: Bench) -> None:
    remote = await bench.up()
    await remote.connect(bench.target("minion-1", generation="boot-2"))
    await bench.wait("lost")
    await bench.wait("connected", 2)
    assert [told[2]["generation"] for told in bench.told if told[1] == "connected"] == ["boot-1", "boot-2"]


# -- run and put


@pytest.mark.parametrize("argument", ["a b", "$HOME", "'", '"', "`id`", "; false", "*", "\\", "", "é\n"])
async def test_arguments_arrive_as_they_are(bench: Bench, argument: str) -> None:
    remote = await bench.up()
    assert (await remote.run("minion-1", ["echo", "-", argument])).stdout == f"- {argument}\n".encode()


async def test_exit_status(bench: Bench) -> None:
    remote = await bench.up()
    assert (await remote.run("minion-1", ["false"], check=False)).status == 1
    with pytest.raises(CommandFailed) as raised:
        await remote.run("minion-1", ["cat", "/nowhere"])
    assert raised.value.status == 1
    assert "No such file" in raised.value.stderr


async def test_much_goes_in_and_out_whole(bench: Bench) -> None:
    """More than any window, so that both directions must flow at once."""
    remote = await bench.up()
    data = os.urandom(6 << 20)
    assert (await remote.run("minion-1", ["cat"], stdin=data)).stdout == data


async def test_input_nobody_reads_is_no_error(bench: Bench) -> None:
    remote = await bench.up()
    assert (await remote.run("minion-1", ["true"], stdin=bytes(4 << 20))).status == 0


async def test_a_deadline_is_kept_and_the_next_call_works(bench: Bench) -> None:
    remote = await bench.up()
    with pytest.raises(Deadline):
        await remote.run("minion-1", ["sleep", "60"], deadline_s=0.3)
    assert (await remote.run("minion-1", ["echo", "on"])).stdout == b"on\n"


async def test_put_writes_whole_files(bench: Bench) -> None:
    remote = await bench.up()
    path, data = str(bench.folder / "a file"), bytes(range(256)) * 999
    await remote.put("minion-1", path, b"old")
    await remote.put("minion-1", path, data, mode=0o640)
    assert (await remote.run("minion-1", ["cat", path])).stdout == data
    with pytest.raises(CommandFailed):
        await remote.put("minion-1", f"{path}/below", b"")


async def test_machines_do_not_wait_for_each_other(bench: Bench) -> None:
    remote = await bench.up("minion-1")
    await bench.up("minion-2")
    slow = asyncio.create_task(remote.run("minion-1", ["sleep", "60"]))
    async with asyncio.timeout(SOON_S):
        assert (await remote.run("minion-2", ["echo", "quick"])).stdout == b"quick\n"
    await remote.forget("minion-1")
    with pytest.raises(Unreachable):
        await slow


# -- the connection is lost


async def test_a_call_under_way_fails_when_the_connection_is_lost(bench: Bench) -> None:
    remote = await bench.up()
    stream = await remote.open("minion-1", ["cat"])  # something to see that it runs
    sleep = ["sleep", f"60.{os.getpid()}"]
    slow = asyncio.create_task(remote.run("minion-1", sleep))
    await stream.write(b"x")
    async for _ in stream.read():
        break
    async with asyncio.timeout(SOON_S):
        while not bench.runs(sleep):  # or it would be made on the next connection
            await asyncio.sleep(0.01)
    bench.cut()
    with pytest.raises(Unreachable):
        await slow
    with pytest.raises(Unreachable):
        await stream.status()
    await bench.wait("lost")


async def test_later_calls_connect_by_themselves(bench: Bench) -> None:
    remote = await bench.up()
    assert await remote.call("minion-1", "echo", 1) == 1
    bench.cut()
    await bench.wait("lost")
    async with asyncio.timeout(SOON_S):
        while True:
            try:
                assert (await remote.run("minion-1", ["echo", "again"])).stdout == b"again\n"
                break
            except Unreachable:  # between two attempts
                await asyncio.sleep(0.02)
    assert await remote.call("minion-1", "echo", 2) == 2
    await bench.wait("connected", 2)


# -- the helper


@pytest.mark.parametrize("params", [None, 7, "é", {"a": [1, {"b": None}]}, ["x" * 300_000]])
async def test_the_helper_answers(bench: Bench, params: Any) -> None:
    remote = await bench.up()
    assert await remote.call("minion-1", "echo", params) == params


async def test_the_helper_says_no(bench: Bench) -> None:
    remote = await bench.up()
    with pytest.raises(CommandFailed, match="no such chain"):
        await remote.call("minion-1", "refuse", "no such chain")
    assert await remote.call("minion-1", "echo", 1) == 1


async def test_calls_are_answered_each_with_its_own(bench: Bench) -> None:
    remote = await bench.up()
    assert await asyncio.gather(*(remote.call("minion-1", "echo", n) for n in range(100))) == list(range(100))


async def test_what_the_helper_says_unasked_is_told(bench: Bench) -> None:
    remote = await bench.up()
    await remote.call("minion-1", "announce", {"rules": "abc", "routes": "", "forwarder": "", "dns": ""})
    await bench.wait("digest")
    assert ("minion-1", "digest", {"rules": "abc", "routes": "", "forwarder": "", "dns": ""}) in bench.told


async def test_a_helper_that_is_late_is_not_waited_for(bench: Bench) -> None:
    remote = await bench.up()
    with pytest.raises(Deadline):
        await remote.call("minion-1", "sleep", 60, deadline_s=0.5)
    assert await remote.call("minion-1", "echo", 1) == 1


# -- streams


async def test_a_stream_has_two_ways_and_an_end(bench: Bench) -> None:
    remote = await bench.up()
    stream = await remote.open("minion-1", ["cat"])
    await stream.write(b"one")
    got = b""
    async for source, data in stream.read():
        assert source == 1
        got += data
        if got == b"one":
            await stream.write(b"two")
        if got == b"onetwo":
            await stream.end_input()
    assert await stream.status() == 0


async def test_stderr_and_status_of_a_stream(bench: Bench) -> None:
    remote = await bench.up()
    stream = await remote.open("minion-1", ["cat", "/nowhere"])
    said = b"".join([data async for source, data in stream.read() if source == 2])
    assert b"No such file" in said
    assert await stream.status() == 1
    await stream.write(b"dropped")


async def test_more_streams_than_a_connection_holds(bench: Bench) -> None:
    remote = await bench.up()
    streams = await asyncio.gather(*(remote.open("minion-1", ["cat"]) for _ in range(20)))
    for number, stream in enumerate(streams):
        await stream.write(b"%d" % number)
        await stream.end_input()
    for number, stream in enumerate(streams):
        assert [data async for data in stream.read()] == [(1, b"%d" % number)]
        assert await stream.status() == 0


async def test_a_slow_reader_holds_up_its_writer_and_nobody_else(bench: Bench) -> None:
    remote = await bench.up()
    stream = await remote.open("minion-1", ["cat"])
    data = os.urandom(8 << 20)

    async def write() -> None:
        await stream.write(data)
        await stream.end_input()

    writing = asyncio.create_task(write())
    done, _ = await asyncio.wait([writing], timeout=0.3)
    assert not done, "8 MiB cannot be on their way"
    assert (await remote.run("minion-1", ["echo", "quick"])).stdout == b"quick\n"
    assert b"".join([part async for _, part in stream.read()]) == data
    await writing


async def test_closing_a_stream_ends_its_command(bench: Bench) -> None:
    remote = await bench.up()
    stream = await remote.open("minion-1", ["cat"])
    await stream.close()
    await stream.close()
    assert [data async for data in stream.read()] == []


async def test_dialling_nobody_is_unreachable(bench: Bench) -> None:
    remote = await bench.up()
    with pytest.raises(Unreachable):
        await remote.dial("minion-1", "127.0.0.1", 1)
