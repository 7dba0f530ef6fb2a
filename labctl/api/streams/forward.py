"""port-forward works over a WebSocket, with SPDY inside (kubectl) or with channels (the Python client), or over SPDY itself (older programs).

Each connection is made inside the pod's own network, by the agent's `forward` on the pod's machine."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress

from aiohttp import ClientConnectionResetError, WSMsgType, web

from labctl.api import answer, status, websockets
from labctl.api.call import Call
from labctl.api.streams import pods
from labctl.api.streams.carry import Destination, Inbox
from labctl.api.streams.spdy_channels import Upgraded, choose_version
from labctl.api.streams.tunnel import Tunnel
from labctl.api.streams.websocket import MESSAGE_MAX_BYTES, ChannelSocket, choose_protocol, not_upgraded
from labctl.remote.interface import Remote
from labctl.resources.resources import Resources

TUNNEL = "SPDY/3.1+portforward.k8s.io"
CHANNELS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io", "portforward.k8s.io")
PORTS_MAX = 100  # a channel's number is one byte, and each port has two


class Forward:
    """Handles the subresource `portforward` of pods."""

    def __init__(self, resources: Resources, remote: Remote) -> None:
        self._resources = resources
        self._remote = remote

    async def portforward(self, call: Call) -> web.StreamResponse:
        pod = pods.pod_of(call, self._resources)
        machine = pods.machine_of(pod)
        if not pod.status.pod_ip or pod.status.phase != "Running":
            raise status.bad_request(f"unable to forward port because pod is not running. Current status={pod.status.phase}")
        destination = Destination(self._remote, machine, pod)
        if call.is_spdy:
            return await _spdy(call, destination)
        if not call.is_websocket:
            raise not_upgraded(machine, self._remote)
        protocol = choose_protocol(call, (TUNNEL, *CHANNELS))
        if protocol == TUNNEL:
            return await _tunnel(call, destination)
        ports = _ports(call)
        client = ChannelSocket(protocol)
        await client.response.prepare(call.request)
        with call.connection.streaming():
            await _Channels(client, destination, ports).run()
        return client.response


def _ports(call: Call) -> list[int]:
    texts = [text for value in call.query.all("ports") for text in value.split(",")]
    try:
        ports = [int(text) for text in texts]
    except ValueError:
        ports = []
    if not ports or not all(0 < port < 65536 for port in ports):
        raise status.bad_request('query parameter "ports" is required: numbers between 1 and 65535')
    if len(ports) > PORTS_MAX:
        raise status.bad_request(f'query parameter "ports" names {len(ports)} ports; {PORTS_MAX} are the most')
    return ports


async def _tunnel(call: Call, destination: Destination) -> web.StreamResponse:
    """Serves kubectl since 1.31, which sends its SPDY connection through a WebSocket's messages."""
    socket = websockets.new((TUNNEL,), message_max_bytes=MESSAGE_MAX_BYTES)
    await socket.prepare(call.request)
    tunnel = Tunnel(destination, socket.send_bytes)
    try:
        with call.connection.streaming():
            async for message in websockets.incoming(socket):
                if message.type != WSMsgType.BINARY or not await tunnel.received(message.data):
                    break
    finally:
        await tunnel.close()
    return socket


async def _spdy(call: Call, destination: Destination) -> web.StreamResponse:
    """Serves kubectl before 1.31 and most Go programs, which speak SPDY itself."""
    connection = Upgraded(call)
    version = choose_version(call, ("portforward.k8s.io",))
    tunnel = Tunnel(destination, connection.send)
    try:
        with call.connection.streaming(), suppress(ClientConnectionResetError):
            await connection.switch(version)
            while data := await connection.read():
                if not await tunnel.received(data):
                    break
    finally:
        await tunnel.close()
    return answer.NoResponse()


class _Channels:
    """Serves a client that uses channels: channel 2i carries port i's data, 2i+1 its errors. The first message of each is the port, in two bytes, low byte first."""

    def __init__(self, client: ChannelSocket, destination: Destination, ports: list[int]) -> None:
        self._client = client
        self._destination = destination
        self._ports = ports
        self._inboxes = {2 * index: Inbox() for index in range(len(ports))}

    async def run(self) -> None:
        tasks: list[asyncio.Task[None]] = []
        try:
            for index, port in enumerate(self._ports):
                for channel in (2 * index, 2 * index + 1):
                    await self._client.send(channel, struct.pack("<H", port))
                tasks.append(asyncio.create_task(self._carry(2 * index, port)))
            async for channel, data in self._client.messages():
                if channel in self._inboxes:
                    await self._inboxes[channel].put(data)
        except ClientConnectionResetError:
            pass
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, channel: int, port: int) -> None:
        with suppress(ClientConnectionResetError):
            problem = await self._destination.carry(port, self._inboxes[channel], lambda chunk: self._client.send(channel, chunk))
            if problem:
                await self._client.send(channel + 1, problem.encode())
            if len(self._ports) == 1:
                await self._client.close()
