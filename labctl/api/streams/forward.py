"""port-forward over a WebSocket: kubectl's way (SPDY inside) and the Python client's (channels), each connection dialled from the pod's machine.

kubectl opens two SPDY streams per local connection, `error` and `data`, tied by a request id. When both are there, the pod's port is dialled.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress

from aiohttp import ClientConnectionResetError, WSMsgType, web

from labctl.api import status
from labctl.api.call import Call
from labctl.api.streams import pods, spdy
from labctl.api.streams.channels import HEARTBEAT_S, websocket_protocol
from labctl.errors import LabctlError
from labctl.remote.interface import Remote, Stream
from labctl.resources.kinds.core_v1.pod_view import Pod
from labctl.resources.resources import Resources

TUNNEL = "SPDY/3.1+portforward.k8s.io"
CHANNELS = ("v4.channel.k8s.io", "portforward.k8s.io")
MAX_CONNECTIONS = 256


class Forward:
    """`portforward` of pods."""

    def __init__(self, resources: Resources, remote: Remote) -> None:
        self._resources = resources
        self._remote = remote

    async def portforward(self, call: Call) -> web.StreamResponse:
        pod = pods.pod_of(call, self._resources)
        machine = pods.machine_of(pod)
        if not pod.status.pod_ip or pod.status.phase != "Running":
            raise status.bad_request(f"unable to forward port because pod is not running. Current status={pod.status.phase}")
        protocol = websocket_protocol(call, (TUNNEL, *CHANNELS), machine, self._remote)
        ports = [] if protocol == TUNNEL else _ports(call)
        socket = web.WebSocketResponse(protocols=(protocol,), heartbeat=HEARTBEAT_S, max_msg_size=0)
        await socket.prepare(call.request)
        pipes = _Pipes(self._remote, machine, _address(pod))
        try:
            with call.connection.streaming():
                await (_Tunnel(socket, pipes) if protocol == TUNNEL else _Channels(socket, pipes, ports)).run()
        finally:
            await pipes.close()
        return socket


def _address(pod: Pod) -> str:
    return pod.status.pod_ip


def _ports(call: Call) -> list[int]:
    texts = [text for value in call.query.all("ports") for text in value.split(",")]
    try:
        ports = [int(text) for text in texts]
    except ValueError:
        ports = []
    if not ports or not all(0 < port < 65536 for port in ports):
        raise status.bad_request('query parameter "ports" is required: numbers between 1 and 65535')
    return ports


class _Pipes:
    """Connections to the pod, by the client's number for them; each has one task that carries what the pod says."""

    def __init__(self, remote: Remote, machine: str, address: str) -> None:
        self._remote = remote
        self._machine = machine
        self._address = address
        self._streams: dict[int, Stream] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    async def dial(self, number: int, port: int) -> Stream:
        stream = await self._remote.dial(self._machine, self._address, port)
        self._streams[number] = stream
        return stream

    def get(self, number: int) -> Stream | None:
        return self._streams.get(number)

    async def drop(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            await stream.close()

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for number in list(self._streams):
            await self.drop(number)


class _Tunnel:
    """SPDY inside the WebSocket's messages."""

    def __init__(self, socket: web.WebSocketResponse, pipes: _Pipes) -> None:
        self._socket = socket
        self._pipes = pipes
        self._framer = spdy.Framer()
        self._errors: dict[str, int] = {}  # request id -> its error stream
        self._waiting: dict[int, asyncio.Queue[spdy.Data]] = {}  # what the client said to a data stream, until the pod took it

    async def run(self) -> None:
        with suppress(ClientConnectionResetError, spdy.ProtocolError):
            async for message in self._socket:
                if message.type != WSMsgType.BINARY:
                    break
                for frame in self._framer.feed(message.data):
                    await self._received(frame)

    async def _received(self, frame: spdy.Frame) -> None:
        match frame:
            case spdy.Opened():
                await self._opened(frame)
            case spdy.Data():
                if frame.stream in self._waiting:
                    await self._waiting[frame.stream].put(frame)
            case spdy.Reset():
                if frame.stream in self._waiting:
                    await self._waiting[frame.stream].put(spdy.Data(frame.stream, b"", fin=True))
                    await self._pipes.drop(frame.stream)
            case spdy.Ping():
                await self._socket.send_bytes(self._framer.pong(frame.id))

    async def _opened(self, frame: spdy.Opened) -> None:
        request = frame.headers.get("requestid", "")
        port = frame.headers.get("port", "")
        kind = frame.headers.get("streamtype", "")
        if kind == "error":
            self._errors[request] = frame.stream
        elif kind != "data" or not port.isdigit() or request not in self._errors or len(self._waiting) >= MAX_CONNECTIONS:
            await self._socket.send_bytes(self._framer.reset(frame.stream))
            return
        await self._socket.send_bytes(self._framer.reply(frame.stream))
        if kind == "data":
            self._waiting[frame.stream] = asyncio.Queue(maxsize=64)
            task = asyncio.create_task(self._connection(frame.stream, self._errors.pop(request), int(port)))
            self._pipes.tasks.add(task)
            task.add_done_callback(self._pipes.tasks.discard)

    async def _connection(self, data: int, error: int, port: int) -> None:
        """One local connection of kubectl's, from the dial to its end. What went wrong is said on the error stream."""
        complaint = b""
        try:
            stream = await self._pipes.dial(data, port)
            sending = asyncio.create_task(self._to_pod(data, stream))
            try:
                async for _number, chunk in stream.read():
                    await self._socket.send_bytes(self._framer.data(data, chunk))
            finally:
                sending.cancel()
        except LabctlError as problem:
            complaint = f"error forwarding port {port} to pod: {problem}".encode()
        finally:
            del self._waiting[data]
            await self._pipes.drop(data)
        with suppress(ClientConnectionResetError):
            await self._socket.send_bytes(self._framer.data(error, complaint, fin=True))
            await self._socket.send_bytes(self._framer.data(data, b"", fin=True))

    async def _to_pod(self, number: int, stream: Stream) -> None:
        while True:
            frame = await self._waiting[number].get()
            if frame.data:
                await stream.write(frame.data)
            if frame.fin:
                await stream.end_input()
                return


class _Channels:
    """Channel 2i carries port i's data, 2i+1 its errors; the first message of each is the port, two bytes, low first."""

    def __init__(self, socket: web.WebSocketResponse, pipes: _Pipes, ports: list[int]) -> None:
        self._socket = socket
        self._pipes = pipes
        self._ports = ports

    async def run(self) -> None:
        for index, port in enumerate(self._ports):
            for channel in (2 * index, 2 * index + 1):
                await self._socket.send_bytes(bytes((channel,)) + struct.pack("<H", port))
            task = asyncio.create_task(self._from_pod(2 * index, port))
            self._pipes.tasks.add(task)
        with suppress(ClientConnectionResetError):
            async for message in self._socket:
                if message.type != WSMsgType.BINARY:
                    break
                stream = self._pipes.get(message.data[0]) if message.data else None
                if stream is not None:
                    await stream.write(message.data[1:])

    async def _from_pod(self, channel: int, port: int) -> None:
        with suppress(ClientConnectionResetError):
            try:
                stream = await self._pipes.dial(channel, port)
                async for _number, chunk in stream.read():
                    await self._socket.send_bytes(bytes((channel,)) + chunk)
            except LabctlError as problem:
                await self._socket.send_bytes(bytes((channel + 1,)) + str(problem).encode())
            if len(self._ports) == 1:
                await self._socket.close()
