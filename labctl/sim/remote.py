"""A fake of the SSH room: it keeps the same contract as `SshProcess` (tests/contract/test_remote.py runs on both), without threads, processes or a network.

A FakeHost runs programs: async functions on a Shell, found by the last part of argv[0]. Its sshd can be down, its key another one, its connection cut
at any moment. Time is the loop's, so deadlines are exact on a virtual one. `helpers.py` is the other fake: only `call`, on tables of rules.
"""

from __future__ import annotations

import asyncio
import inspect
import posixpath
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from labctl.errors import CommandFailed, Deadline, HostKeyMismatch, Unreachable
from labctl.remote.interface import Result, Target, Terminal

CHUNKS = 8  # how many chunks of a stream's output may wait for their reader
CHUNK_BYTES = 32 << 10

Program = Callable[["Shell"], Awaitable[int]]


class Shell:
    """What a fake program gets: its argv, its streams and the machine on which it runs."""

    def __init__(self, host: FakeHost, argv: Sequence[str], terminal: Terminal | None = None) -> None:
        self.host = host
        self.argv = list(argv)
        self.terminal = terminal
        self.sizes: list[tuple[int, int]] = []
        self.input: asyncio.Queue[bytes | None] = asyncio.Queue(CHUNKS)
        self.output: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(CHUNKS)

    async def read(self) -> bytes:
        """Return some input, or nothing at its end."""
        return await self.input.get() or b""

    async def read_all(self) -> bytes:
        parts = []
        while part := await self.read():
            parts.append(part)
        return b"".join(parts)

    async def write(self, data: bytes, source: int = 1) -> None:
        for start in range(0, len(data), CHUNK_BYTES):
            await self.output.put((source, data[start : start + CHUNK_BYTES]))


async def _echo(shell: Shell) -> int:
    await shell.write(" ".join(shell.argv[1:]).encode() + b"\n")
    return 0


async def _cat(shell: Shell) -> int:
    for path in shell.argv[1:]:
        if path not in shell.host.files:
            await shell.write(f"cat: {path}: No such file or directory\n".encode(), 2)
            return 1
        await shell.write(shell.host.files[path])
    while shell.argv[1:] == [] and (part := await shell.read()):
        await shell.write(part)
    return 0


async def _sleep(shell: Shell) -> int:
    await asyncio.sleep(float(shell.argv[1]))
    return 0


async def _true(shell: Shell) -> int:
    return 0


async def _false(shell: Shell) -> int:
    return 1


PROGRAMS: dict[str, Program] = {"echo": _echo, "cat": _cat, "sleep": _sleep, "true": _true, "false": _false}


@dataclass
class FakeHost:
    """A machine with a sshd. `helper(method, params)` answers calls; an exception in it becomes the helper's error."""

    host_key: str = "ssh-ed25519 AAAAfake"
    up: bool = True
    files: dict[str, bytes] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=lambda: dict(PROGRAMS))
    ports: dict[tuple[str, int], Program] = field(default_factory=dict)
    helper: Callable[[str, Any], Any] = lambda method, params: None
    ran: list[list[str]] = field(default_factory=list)  # every argv, in order
    running: set[asyncio.Task[int]] = field(default_factory=set)


class FakeStream:
    """A running program of a FakeHost."""

    def __init__(self, shell: Shell, task: asyncio.Task[int], name: str) -> None:
        self._shell = shell
        self._task = task
        self._name = name
        self._closed = False
        task.add_done_callback(self._ended)

    async def read(self) -> AsyncIterator[tuple[int, bytes]]:
        while not self._closed:
            getting = asyncio.ensure_future(self._shell.output.get())
            await asyncio.wait([getting, self._task], return_when=asyncio.FIRST_COMPLETED)
            if not getting.done() and self._shell.output.empty():
                getting.cancel()
                await self.status()
                return
            part = await getting
            if part is not None:
                yield part

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK_BYTES):
            await self._put(data[start : start + CHUNK_BYTES])

    async def end_input(self) -> None:
        await self._put(None)

    async def resize(self, columns: int, rows: int) -> None:
        self._shell.sizes.append((columns, rows))

    async def status(self) -> int:
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            if self._task.cancelled() and not self._closed:
                raise Unreachable(f"{self._name}: the connection was lost") from None
            raise

    async def close(self) -> None:
        self._closed = True
        self._task.cancel()

    async def _put(self, data: bytes | None) -> None:
        """Queue output. What is written after the end is dropped."""
        putting = asyncio.ensure_future(self._shell.input.put(data))
        await asyncio.wait([putting, self._task], return_when=asyncio.FIRST_COMPLETED)
        putting.cancel()

    def _ended(self, task: asyncio.Task[int]) -> None:
        if not task.cancelled():
            task.exception()  # `status` raises it


class FakeRemote:
    """A Remote over FakeHosts, which are found by the target's address."""

    def __init__(self, hosts: dict[str, FakeHost] | None = None) -> None:
        self.hosts = hosts if hosts is not None else {}
        self._targets: dict[str, Target] = {}
        self._connected: set[str] = set()
        self._turns: dict[str, asyncio.Lock] = {}
        self._listeners: list[Callable[[str, str, Any], None]] = []
        self.helper_resets: list[str] = []

    async def connect(self, target: Target) -> None:
        known = self._targets.get(target.name)
        if known and known != target:
            await self.forget(target.name)
        self._targets[target.name] = target
        self._host(target.name)

    async def forget(self, name: str) -> None:
        target = self._targets.pop(name, None)
        if target:
            self._lose(name, target, "closed")

    def connected(self, name: str) -> bool:
        return name in self._connected

    async def run(self, name: str, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float = 30.0, check: bool = True) -> Result:
        try:
            async with asyncio.timeout(deadline_s), self._turn(name):
                stream = self._start(name, argv, self._program(name, argv))
                try:
                    result = await _collect(stream, stdin)
                finally:
                    await stream.close()
        except TimeoutError:
            raise Deadline(f"{name}: {' '.join(argv)[:200]} took too long") from None
        if check and result.status:
            raise CommandFailed(name, argv, result.status, result.stderr.decode(errors="replace"))
        return result

    async def put(self, name: str, path: str, data: bytes, *, mode: int = 0o644, deadline_s: float = 60.0) -> None:
        async with self._turn(name):
            host = self._host(name)
            if posixpath.dirname(path) in host.files:
                raise CommandFailed(name, ("put", path), 1, f"{path}: Not a directory")
            host.files[path], host.modes[path] = data, mode

    async def call(self, name: str, method: str, params: Any, *, deadline_s: float = 30.0) -> Any:
        async def answer(shell: Shell) -> int:
            shell.host.ran.pop()  # a call is not recorded as a command
            try:
                said = shell.host.helper(method, params)
                results.append(await said if inspect.isawaitable(said) else said)
            except Exception as error:
                raise CommandFailed(name, ("helper", method), 1, str(error)) from None
            return 0

        results: list[Any] = []
        try:
            async with asyncio.timeout(deadline_s), self._turn(name):
                stream = self._start(name, ("helper",), answer)
                try:
                    await stream.status()
                finally:
                    await stream.close()
        except TimeoutError:
            raise Deadline(f"{name}: the helper did not answer in time") from None
        return results[0]

    async def open(self, name: str, argv: Sequence[str], *, terminal: Terminal | None = None) -> FakeStream:
        return self._start(name, argv, self._program(name, argv), terminal)

    async def dial(self, name: str, host: str, port: int) -> FakeStream:
        program = self._host(name).ports.get((host, port))
        if program is None:
            raise Unreachable(f"{name}: connecting to {host}:{port}: Connection refused")
        return self._start(name, (f"{host}:{port}",), program)

    def listen(self, tell: Callable[[str, str, Any], None]) -> None:
        self._listeners.append(tell)

    def reset_helper(self, name: str) -> None:
        self.helper_resets.append(name)

    async def close(self) -> None:
        for name in sorted(self._targets):
            await self.forget(name)

    # -- what only a fake can do

    def cut(self, name: str) -> None:
        """Lose the connection now. The next call opens another if the host is up."""
        self._lose(name, self._targets[name], "the connection was lost")

    def say(self, name: str, method: str, params: Any) -> None:
        """Act as if the helper sent a notification."""
        for listener in self._listeners:
            listener(name, method, params)

    # -- parts

    def _host(self, name: str) -> FakeHost:
        """Return the host, after connecting to it."""
        target = self._targets.get(name)
        if target is None:
            raise Unreachable(f"{name}: no such machine is known")
        host = self.hosts.get(target.address)
        if host is None or not host.up:
            raise Unreachable(f"{name} ({target.address}:{target.port}): Connection refused")
        if host.host_key != target.host_key:
            raise HostKeyMismatch(f"{name} answered with another SSH host key than the pinned one: {host.host_key}")
        if name not in self._connected:
            self._connected.add(name)
            self.say(name, "connected", {"generation": target.generation, "took_s": 0.0})
        return host

    def _lose(self, name: str, target: Target, reason: str) -> None:
        host = self.hosts.get(target.address)
        for task in list(host.running) if host else ():
            task.cancel()
        if name in self._connected:
            self._connected.discard(name)
            self.say(name, "lost", {"generation": target.generation, "reason": reason})

    def _turn(self, name: str) -> asyncio.Lock:
        return self._turns.setdefault(name, asyncio.Lock())

    def _program(self, name: str, argv: Sequence[str]) -> Program:
        async def not_found(shell: Shell) -> int:
            await shell.write(f"sh: 1: {argv[0]}: not found\n".encode(), 2)
            return 127

        return self._host(name).programs.get(posixpath.basename(argv[0]), not_found)

    def _start(self, name: str, argv: Sequence[str], program: Program, terminal: Terminal | None = None) -> FakeStream:
        host = self._host(name)
        host.ran.append(list(argv))
        shell = Shell(host, argv, terminal)
        task = asyncio.ensure_future(program(shell))
        host.running.add(task)
        task.add_done_callback(host.running.discard)
        return FakeStream(shell, task, name)


async def _collect(stream: FakeStream, stdin: bytes) -> Result:
    async def feed() -> None:
        await stream.write(stdin)
        await stream.end_input()

    feeding = asyncio.create_task(feed())
    outputs = {1: bytearray(), 2: bytearray()}
    try:
        async for source, data in stream.read():
            outputs[source] += data
        return Result(await stream.status(), bytes(outputs[1]), bytes(outputs[2]))
    finally:
        feeding.cancel()
