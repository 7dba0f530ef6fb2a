"""exec and attach over a WebSocket: Kubernetes' channel protocol on one side, a stream to the machine's agent on the other.

A message is one byte that names the channel, then its data: 0 standard input, 1 output, 2 error, 3 how it ended, 4 the terminal's size;
255 (v5 only) closes the channel named by the next byte. kubectl 1.31 and later speak v5, the Python client v4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
from aiohttp import ClientConnectionResetError, WSMsgType, web

from labctl.api import status
from labctl.api.call import Call
from labctl.api.streams import pods
from labctl.errors import LabctlError, Unreachable
from labctl.remote.interface import Remote, Stream, Terminal
from labctl.resources.resources import Resources

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
HEARTBEAT_S = 30.0

_encode = msgspec.json.Encoder().encode


class _Size(msgspec.Struct, rename="pascal"):
    width: int = 80
    height: int = 24


class Channels:
    """`exec` and `attach` of pods."""

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
        protocol = websocket_protocol(call, PROTOCOLS, machine, self._remote)
        tty = call.query.flag("tty")
        options = ["--pod", pod.metadata.uid, "--container", container] + ["--tty"] * tty
        stream = await self._remote.open(machine, [*pods.AGENT, verb, *options, *rest], terminal=Terminal() if tty else None)
        try:
            socket = web.WebSocketResponse(protocols=(protocol,), heartbeat=HEARTBEAT_S, max_msg_size=0)
            await socket.prepare(call.request)
            with call.connection.streaming():
                await _Session(socket, stream, call.query.flag("stdin")).run()
        finally:
            await stream.close()
        return socket


def websocket_protocol(call: Call, supported: Sequence[str], machine: str, remote: Remote) -> str:
    """The first of the client's subprotocols that is spoken here. Raises 400: nothing of this can be answered without an upgrade.

    kubectl shows nothing of why a WebSocket was refused: it tries again with SPDY, and shows why that was. So what is wrong with the machine is said first.
    """
    if not call.is_websocket:
        if not remote.connected(machine):
            raise Unreachable(f"no connection to node {machine}")
        raise status.bad_request("Upgrade request required: labctl streams over WebSocket")
    offered = [p.strip() for value in call.request.headers.getall("Sec-WebSocket-Protocol", []) for p in value.split(",")]
    chosen = next((p for p in supported if p in offered), "")
    if not chosen:
        raise status.bad_request(f"unable to negotiate a subprotocol: client supports {offered}, server accepts {list(supported)}")
    return chosen


class _Session:
    """One command: two pumps, and the word on how it ended. Who ends first ends the other."""

    def __init__(self, socket: web.WebSocketResponse, stream: Stream, stdin: bool) -> None:
        self._socket = socket
        self._stream = stream
        self._stdin = stdin

    async def run(self) -> None:
        listening = asyncio.create_task(self._from_client())
        telling = asyncio.create_task(self._to_client())
        try:
            await asyncio.wait((listening, telling), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (listening, telling):
                task.cancel()
            await asyncio.gather(listening, telling, return_exceptions=True)

    async def _to_client(self) -> None:
        with suppress(ClientConnectionResetError):
            try:
                async for number, data in self._stream.read():
                    await self._socket.send_bytes(bytes((number,)) + data)
                ended = exit_status(await self._stream.status())
            except LabctlError as error:
                ended = status.of(status.internal(str(error)))
            await self._socket.send_bytes(bytes((ERROR,)) + _encode(ended))
            await self._socket.close()

    async def _from_client(self) -> None:
        async for message in self._socket:
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                break
            data = message.data if isinstance(message.data, bytes) else message.data.encode()
            if data:
                await self._received(data[0], data[1:])

    async def _received(self, channel: int, data: bytes) -> None:
        if channel == STDIN and data and self._stdin:
            await self._stream.write(data)
        elif channel == RESIZE:
            with suppress(msgspec.DecodeError):
                size = msgspec.json.decode(data, type=_Size)
                await self._stream.resize(size.width, size.height)
        elif channel == CLOSE and data[:1] == bytes((STDIN,)):
            await self._stream.end_input()


def exit_status(code: int) -> dict[str, Any]:
    """What channel 3 says at the end: kubectl takes its own exit code from it."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
