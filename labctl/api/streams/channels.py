"""exec and attach connect Kubernetes' channels on the client's side with a stream to the machine's agent.

Channel 0 is standard input, 1 output, 2 error, 3 the exit status, 4 the terminal's size; 255 (v5 only) closes the channel named by the next byte.
kubectl 1.31 and later speak v5 over a WebSocket, the Python client v4; kubectl before 1.29 and most Go programs speak SPDY (spdy_channels.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Annotated, Any, Protocol

import msgspec
from aiohttp import ClientConnectionResetError, web

from labctl.api import answer, status
from labctl.api.call import Call
from labctl.api.streams import pods
from labctl.api.streams.spdy_channels import CLOSE, ERROR, RESIZE, SIZE_MAX_BYTES, STDIN, SpdyChannels, Upgraded, choose_version
from labctl.api.streams.websocket import ChannelSocket, choose_protocol, not_upgraded
from labctl.decoding import from_json
from labctl.errors import ApiError, LabctlError
from labctl.remote.interface import Remote, Stream, Terminal
from labctl.resources.encoding import NOT_JSON
from labctl.resources.resources import Resources

PROTOCOLS = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
)
SPDY_VERSIONS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")

LINGER_S = 10.0
"""A command whose client is gone is given so long to take the input that was sent before, and to end."""

_encode = msgspec.json.Encoder().encode


_Length = Annotated[int, msgspec.Meta(ge=1, le=0xFFFF)]


class _Size(msgspec.Struct, rename="pascal"):
    """The size of a terminal, in characters."""

    width: _Length
    height: _Length


class Client(Protocol):
    """The client's end of exec and attach, over a WebSocket or SPDY."""

    async def send(self, channel: int, data: bytes) -> None: ...
    def messages(self) -> AsyncIterator[tuple[int, bytes]]: ...
    async def close(self) -> None: ...


class Channels:
    """Handles the subresources `exec` and `attach` of pods."""

    def __init__(self, resources: Resources, remote: Remote) -> None:
        self._resources = resources
        self._remote = remote

    async def exec(self, call: Call) -> web.StreamResponse:
        command = call.query.all("command")
        if not command:
            raise status.bad_request("you must specify at least 1 command for the container")
        return await self._run(call, "exec", ["--", *command])

    async def attach(self, call: Call) -> web.StreamResponse:
        return await self._run(call, "attach", [])

    async def _run(self, call: Call, verb: str, rest: Sequence[str]) -> web.StreamResponse:
        pod = pods.pod_of(call, self._resources)
        container = pods.container_of(pod, call.query.first("container"))
        pods.must_run(pod, container)
        machine = pods.machine_of(pod)
        tty = call.query.flag("tty")
        options = ["--pod", pod.metadata.uid, "--container", container] + ["--tty"] * tty
        carry = self._choose(call, machine)
        stream = await self._remote.open(machine, [*pods.AGENT, verb, *options, *rest], terminal=Terminal() if tty else None)
        try:
            if verb == "exec" and not tty and not call.query.flag("stdin"):
                await stream.end_input()  # else a command that reads would wait for input that nobody can give
            return await carry(call, stream)
        finally:
            await stream.close()

    def _choose(self, call: Call, machine: str) -> Callable[[Call, Stream], Awaitable[web.StreamResponse]]:
        """Chooses the protocol that carries the channels. Raises before anything starts on the machine."""
        if call.is_websocket:
            return partial(_over_websocket, choose_protocol(call, PROTOCOLS))
        if call.is_spdy:
            return partial(_over_spdy, choose_version(call, SPDY_VERSIONS))
        raise not_upgraded(machine, self._remote)


async def _over_websocket(protocol: str, call: Call, stream: Stream) -> web.StreamResponse:
    client = ChannelSocket(protocol)
    await client.response.prepare(call.request)
    async with _session(call, client, stream, status_as_json=protocol[:2] in ("v4", "v5")) as session:
        with call.connection.streaming():
            await session.run()
    return client.response


async def _over_spdy(version: str, call: Call, stream: Stream) -> web.StreamResponse:
    """Serves a client over SPDY. The request says which streams the client must open, as in Kubernetes' server."""
    connection = Upgraded(call)
    client = SpdyChannels(connection)
    resizes = call.query.flag("tty") and version[:2] in ("v3", "v4")
    expected = ["error", *(name for name in ("stdin", "stdout", "stderr") if call.query.flag(name)), *["resize"] * resizes]
    with suppress(ApiError, ClientConnectionResetError):
        async with _session(call, client, stream, status_as_json=version[:2] == "v4") as session:
            with call.connection.streaming():
                await connection.switch(version)
                await client.open(expected)
                await session.run()
                await client.linger()
    return answer.NoResponse()


@asynccontextmanager
async def _session(call: Call, client: Client, stream: Stream, *, status_as_json: bool) -> AsyncIterator[Session]:
    """A session, and its end: its client may have gone, or this server may be about to stop."""
    session = Session(client, stream, stdin=call.query.flag("stdin"), tty=call.query.flag("tty"), status_as_json=status_as_json)
    try:
        yield session
    finally:
        await session.end(at_once=call.connection.stopping)


class Session:
    """Runs one command: it copies in both directions, then sends the exit status. When one direction ends, the other is ended too.

    A client of v4 can't end the command's input but by going: so files are uploaded (fabric8 does). What it sent before still arrives, then the input
    ends. A terminal is hung up at once.

    With `status_as_json` the exit status is sent as a Status; clients older than v4 get only failures, as text.
    """

    def __init__(self, client: Client, stream: Stream, *, stdin: bool, tty: bool, status_as_json: bool) -> None:
        self._client = client
        self._stream = stream
        self._stdin = stdin
        self._lingers = stdin and not tty
        self._status_as_json = status_as_json
        self._listening: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Returns when the command has ended, or its client has gone. It is `end` that puts the rest away."""
        self._listening = asyncio.create_task(self._from_client())
        self._telling = asyncio.create_task(self._to_client())
        await asyncio.wait((self._listening, self._telling), return_when=asyncio.FIRST_COMPLETED)

    async def end(self, *, at_once: bool) -> None:
        if not self._listening or not self._telling:
            return
        lingers = self._lingers and not self._telling.done() and not at_once
        await _cancelled(self._telling)
        if lingers:
            await self._linger(self._listening)
        await _cancelled(self._listening)

    async def _linger(self, listening: asyncio.Task[None]) -> None:
        """The client is gone. What it sent is passed on, what the command says is dropped, until it ends."""
        dropping = asyncio.create_task(self._drop())
        with suppress(LabctlError, TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await asyncio.wait((listening,))
                await self._stream.end_input()
                await asyncio.wait((dropping,))
        await _cancelled(dropping)

    async def _drop(self) -> None:
        async for _ in self._stream.read():
            pass

    async def _to_client(self) -> None:
        with suppress(ClientConnectionResetError):
            try:
                async for number, data in self._stream.read():
                    await self._client.send(number, data)
                ended = exit_status(await self._stream.status())
            except LabctlError as error:
                ended = status.of(status.internal(str(error)))
            if self._status_as_json:
                await self._client.send(ERROR, _encode(ended))
            elif ended["status"] != "Success":
                await self._client.send(ERROR, ended["message"].encode())
            await self._client.close()

    async def _from_client(self) -> None:
        async for channel, data in self._client.messages():
            await self._received(channel, data)

    async def _received(self, channel: int, data: bytes) -> None:
        if channel == STDIN and data and self._stdin:
            await self._stream.write(data)
        elif channel == RESIZE and len(data) <= SIZE_MAX_BYTES:
            with suppress(*NOT_JSON):
                size = from_json(data, _Size)
                await self._stream.resize(size.width, size.height)
        elif channel == CLOSE and data[:1] == bytes((STDIN,)):
            await self._stream.end_input()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def exit_status(code: int) -> dict[str, Any]:
    """Returns the Status that channel 3 carries at the end: kubectl takes its own exit code from it."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
