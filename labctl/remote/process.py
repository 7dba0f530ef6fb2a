"""Remote as the master has it: requests to the one SSH process and answers from it. No thread, no paramiko on this side.

Who calls it: see interface.py. The process is started by the first call (or `start`, early, as its imports take 0.15 s; or before that, see child.py).
One supervised task starts it and reads what it says. When the process dies, what was under way fails with Unreachable; the supervisor starts it again,
it is told every target, and the machines' "connected" comes anew. A message, or a listener, that fails costs nothing but itself.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from labctl.clock import SystemClock
from labctl.errors import CommandFailed, Deadline, RemoteError, Unreachable
from labctl.journal import Journal
from labctl.remote import wire
from labctl.remote.child import SshChild
from labctl.remote.interface import Result, Target, Terminal
from labctl.remote.settings import RemoteSettings
from labctl.remote.stream import RemoteStream
from labctl.supervisor import Supervisor

TASK = "ssh-process"
RECEIVE_BYTES = 256 << 10
ANSWER_GRACE_S = 1.0  # the other side keeps deadlines; this is for when it can't

PUT = """set -e
new="$1.labctl-new"
trap 'rm -f "$new"' EXIT
umask 077
cat >"$new"
[ "$(wc -c <"$new")" -eq "$3" ]
chmod "$2" "$new"
sync "$new"
mv -f "$new" "$1"
"""
"""One round trip. The size is compared because a connection that is lost ends the input too."""


class SshProcess:
    """Remote over Fabric. `network_namespace`: a path for setns; the process lives there as a whole. `begun` is a process for the first start."""

    def __init__(
        self,
        settings: RemoteSettings,
        journal: Journal,
        network_namespace: str = "",
        supervisor: Supervisor | None = None,
        begun: SshChild | None = None,
    ) -> None:
        self._supervisor = supervisor or Supervisor(SystemClock(), journal)
        self._settings = settings
        self._journal = journal
        self._namespace = network_namespace
        self._ids = itertools.count(1)
        self._targets: dict[str, Target] = {}
        self._places: dict[str, asyncio.Semaphore] = {}
        self._connected: set[str] = set()
        self._waiting: dict[int, _Waiting] = {}
        self._streams: dict[int, RemoteStream] = {}
        self._listeners: list[Callable[[str, str, Any], None]] = []
        self._begun = begun
        self._child: _Child | None = None
        self._started: asyncio.Future[None] | None = None  # of the next start, whichever way it goes
        self._closed = False

    @property
    def pid(self) -> int:
        """Return the SSH process's id, or 0 while there is none."""
        return self._child.process.pid if self._child else 0

    def enter(self, network_namespace: str) -> None:
        """Live in that network namespace from the next start of the process on. Before the first call."""
        assert self._child is None, "the SSH process is there already"
        self._namespace = network_namespace

    def reverse(self, there: int, here: int) -> None:
        """Lead every machine's loopback port `there` to ours `here`, for as long as there is a connection to it. To be called before the first call."""
        assert self._child is None, "the SSH process is there already"
        self._settings = msgspec.structs.replace(self._settings, reverse_from=there, reverse_to=here)

    async def start(self) -> None:
        """Start the process if it does not run; every other function does so too. Raises Unreachable if it can't be started."""
        if self._closed:
            raise Unreachable("the SSH process was closed")
        if self._child:
            return
        if self._started is None:
            self._started = asyncio.get_running_loop().create_future()
            self._started.add_done_callback(lambda future: future.cancelled() or future.exception())  # nobody has to ask
        self._supervisor.run(TASK, self._live)
        await asyncio.shield(self._started)

    async def _live(self) -> None:
        """Run the process once, from its start to its end. Raises Unreachable; then its supervisor starts another."""
        try:
            self._child = await self._spawn()
        except OSError as error:
            failure = Unreachable(f"the SSH process can't be started: {error}")
            self._settle(failure)
            raise failure from None
        try:
            self._send(wire.Configure(self._settings, self._namespace))
            for target in self._targets.values():  # of the process before this one; the answers are the "connected" events
                self._send(wire.Connect(0, target))
            self._settle(None)
            how = await self._read(self._child)
        finally:
            await self._bury(self._child)
        if not self._closed:
            raise Unreachable(how)

    async def _spawn(self) -> _Child:
        begun, self._begun = self._begun, None
        process = begun or SshChild()
        reader, writer = await asyncio.open_connection(sock=process.connection)
        return _Child(process, reader, writer)

    def _settle(self, error: Unreachable | None) -> None:
        """Tell those who wait for the start."""
        started, self._started = self._started, None
        if started and not started.done():
            started.set_exception(error) if error else started.set_result(None)

    async def _bury(self, child: _Child) -> None:
        """Clean up after a process that has ended or is of no use any more: nothing waits for it."""
        child.writer.close()  # it ends when its socket does
        self._child = None
        self._fail_all(Unreachable("the SSH process ended"))
        await child.process.wait()

    async def connect(self, target: Target) -> None:
        if self._targets.get(target.name, target) != target:
            await self.forget(target.name)
        self._targets[target.name] = target
        await self._ask(lambda id_: wire.Connect(id_, target), target.name, self._settings.connect_deadline_s * 2)

    async def forget(self, name: str) -> None:
        target = self._targets.pop(name, None)
        if target is None:
            return
        self._places.pop(name, None)
        error = Unreachable(f"{name}: the connection was closed")
        for id_ in [id_ for each in (self._waiting, self._streams) for id_, one in each.items() if one.name == name]:
            self._fail(id_, error)
        self._on_lost(name, target.generation, "closed")
        self._send(wire.Forget(name))

    def connected(self, name: str) -> bool:
        return name in self._connected

    async def run(self, name: str, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float = 30.0, check: bool = True) -> Result:
        answer = await self._ask(lambda id_: wire.Run(id_, name, tuple(argv), stdin, deadline_s), name, deadline_s)
        if check and answer.status:
            raise CommandFailed(name, argv, answer.status, answer.stderr.decode(errors="replace"))
        return Result(answer.status, answer.stdout, answer.stderr)

    async def put(self, name: str, path: str, data: bytes, *, mode: int = 0o644, deadline_s: float = 60.0) -> None:
        argv = ("/bin/sh", "-c", PUT, "put", path, f"{mode:o}", str(len(data)))
        result = await self.run(name, argv, stdin=data, deadline_s=deadline_s, check=False)
        if result.status:
            said = result.stderr.decode(errors="replace")
            raise CommandFailed(name, ("put", path), result.status, said or "the file did not arrive whole")

    async def call(self, name: str, method: str, params: Any, *, deadline_s: float = 30.0) -> Any:
        encoded = msgspec.json.encode(method), msgspec.json.encode(params)
        try:
            answer = await self._ask(lambda id_: wire.Call(id_, name, *encoded, deadline_s), name, deadline_s)
        except wire.HelperRefused as error:
            raise CommandFailed(name, ("helper", method), 1, error.message) from None
        return wire.decode_answer(name, method, answer.stdout)

    def reset_helper(self, name: str) -> None:
        """Let the next call start a new helper, because the helper's program has changed."""
        if self._child:
            self._send(wire.ResetHelper(name))

    async def open(self, name: str, argv: Sequence[str], *, terminal: Terminal | None = None) -> RemoteStream:
        return await self._open(name, lambda id_: wire.Open(id_, name, tuple(argv), terminal))

    async def dial(self, name: str, host: str, port: int) -> RemoteStream:
        return await self._open(name, lambda id_: wire.Dial(id_, name, host, port))

    def listen(self, tell: Callable[[str, str, Any], None]) -> None:
        self._listeners.append(tell)

    async def close(self) -> None:
        self._closed = True
        await self._supervisor.stop(TASK)
        self._settle(Unreachable("the SSH process was closed"))

    async def _ask(self, request: Callable[[int], wire.Message], name: str, deadline_s: float) -> wire.Answer:
        if name not in self._targets:
            raise Unreachable(f"{name}: no such machine is known")
        async with self._places.setdefault(name, asyncio.Semaphore(self._settings.calls_most)):
            id_ = next(self._ids)
            answer: asyncio.Future[wire.Answer] = asyncio.get_running_loop().create_future()
            self._waiting[id_] = _Waiting(name, answer)
            try:
                async with asyncio.timeout(deadline_s + ANSWER_GRACE_S):
                    await self.start()
                    await self._send_and_drain(request(id_))
                    return await answer
            except TimeoutError:
                raise Deadline(f"{name}: no answer in {deadline_s:g} s") from None
            finally:
                self._waiting.pop(id_, None)

    async def _open(self, name: str, request: Callable[[int], wire.Message]) -> RemoteStream:
        if name not in self._targets:
            raise Unreachable(f"{name}: no such machine is known")
        id_ = next(self._ids)
        stream = self._streams[id_] = RemoteStream(id_, name, self._settings.stream_window_bytes, self._send)
        try:
            async with asyncio.timeout(self._settings.open_deadline_s + ANSWER_GRACE_S):
                await self.start()
                self._send(request(id_))
                await stream.opened()
        except BaseException as error:
            await stream.close()
            self._streams.pop(id_, None)
            if isinstance(error, TimeoutError):
                raise Deadline(f"{name}: a stream was not open in {self._settings.open_deadline_s:g} s") from None
            raise
        return stream

    def _send(self, message: wire.Message) -> None:
        """Send without waiting. The amount is bounded by the streams' windows and the number of calls."""
        if self._child:
            self._child.writer.write(wire.frame(message))

    async def _send_and_drain(self, message: wire.Message) -> None:
        child = self._child
        if child:
            child.writer.write(wire.frame(message))
            with suppress(ConnectionError):  # the reader notices, and fails what waits
                await child.writer.drain()

    async def _read(self, child: _Child) -> str:
        """Take what the process says until it ends, whoever ended it. Answers how."""
        frames = wire.Frames(wire.FromWorker)
        try:
            while data := await child.reader.read(RECEIVE_BYTES):
                for message in frames.feed(data):
                    try:
                        self._take(message)
                    except Exception as error:  # our mistake, about one message: all other machines' must be heard
                        self._supervisor.mistake(TASK, error)
        except ConnectionError:
            pass
        child.writer.close()
        how = f"the SSH process ended ({_ended_how(await child.process.wait())})"
        if not self._closed:
            self._fail_all(Unreachable(how))
            self._journal.note("remote", "process/ssh", f"{how}; started again")
        return how

    def _take(self, message: Any) -> None:
        match message:
            case wire.Answer():
                waiting = self._waiting.get(message.id)
                if waiting and not waiting.answer.done():
                    waiting.answer.set_result(message)
            case wire.Failure():
                self._fail(message.id, wire.to_error(message))
            case wire.Connected():
                self._on_connected(message)
            case wire.Lost():
                self._on_lost(message.name, message.generation, message.reason)
            case wire.HelperEnded():
                self._tell(message.name, "helper", {"state": "ended"})
            case wire.Digest():
                said = {"rules": message.rules, "routes": message.routes, "forwarder": message.forwarder, "dns": message.dns}
                self._tell(message.name, "digest", said)
            case wire.Mistake():
                self._supervisor.mistake(f"ssh-process: {message.where}", message.text)
            case _:
                self._take_stream(message)

    def _take_stream(self, message: Any) -> None:
        if stream := self._streams.get(message.id):
            stream.on_message(message)
            if isinstance(message, wire.Ended):
                del self._streams[message.id]

    def _fail(self, id_: int, error: RemoteError) -> None:
        waiting = self._waiting.get(id_)
        if waiting and not waiting.answer.done():
            waiting.answer.set_exception(error)
        if stream := self._streams.pop(id_, None):
            stream.on_failure(error)

    def _fail_all(self, error: RemoteError) -> None:
        for id_ in [*self._waiting, *self._streams]:
            self._fail(id_, error)
        for name in sorted(self._connected):
            self._on_lost(name, "", error.message)

    def _on_connected(self, message: wire.Connected) -> None:
        target = self._targets.get(message.name)
        if target is None or target.generation != message.generation:
            return  # of a target that was replaced meanwhile
        self._connected.add(message.name)
        self._journal.note("remote", f"machine/{message.name}", f"connected over SSH in {message.took_s * 1000:.0f} ms")
        self._tell(message.name, "connected", {"generation": message.generation, "took_s": message.took_s})

    def _on_lost(self, name: str, generation: str, reason: str) -> None:
        """Handle a lost connection. `generation` is empty if the process itself ended."""
        target = self._targets.get(name)
        if name not in self._connected or (target and generation and target.generation != generation):
            return  # told already
        self._connected.discard(name)
        self._journal.note("remote", f"machine/{name}", f"SSH connection lost: {reason}", did="ssh-lost", where=name, urgent=True)
        self._tell(name, "lost", {"generation": generation or (target.generation if target else ""), "reason": reason})

    def _tell(self, name: str, method: str, params: Any) -> None:
        for listener in self._listeners:
            try:
                listener(name, method, params)
            except Exception as error:  # our mistake, in one listener: the others must hear of it
                self._supervisor.mistake(f"listeners-to-{name}", error)


class _Waiting(NamedTuple):
    name: str
    answer: asyncio.Future[wire.Answer]


class _Child(msgspec.Struct):
    process: SshChild
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


def _ended_how(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"
