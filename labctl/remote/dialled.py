"""HTTP and HTTPS to a pod over a dialled stream: aiohttp's client, whose connections are made by `Remote.dial` instead of a socket.

aiohttp wants a socket, so each connection is a pair: one end is the client's, the other is pumped to and from the stream. The pair's buffers
are the flow control: a slow side stops its pump, and the stream's own bound stops the pod.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from functools import cache
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from labctl.errors import LabctlError
from labctl.remote.interface import Remote, Stream

_CHUNK = 64 << 10


class DialledConnector(aiohttp.BaseConnector):
    """Every connection goes to one address, from one machine. Used for one request, then closed."""

    def __init__(self, remote: Remote, machine: str, host: str, port: int) -> None:
        super().__init__(force_close=True)
        self._remote = remote
        self._destination = machine, host, port
        self._pumps: set[asyncio.Task[None]] = set()

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> ResponseHandler:
        stream = await self._remote.dial(*self._destination)
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        pump = asyncio.create_task(_pump(theirs, stream))
        self._pumps.add(pump)
        pump.add_done_callback(self._pumps.discard)
        protocol: ResponseHandler | None = None
        tls = _any_certificate() if req.is_ssl() else None
        try:
            _transport, protocol = await self._loop.create_connection(
                self._factory, sock=ours, ssl=tls, server_hostname="" if tls else None
            )
        except OSError as error:  # no TLS, or none that we speak
            raise aiohttp.ClientConnectionError(str(error)) from error
        finally:
            if protocol is None:
                pump.cancel()
        return protocol


@cache
def _any_certificate() -> ssl.SSLContext:
    """Pods have certificates of their own making, and the way to them is SSH: as Kubernetes' proxy, this one asks for no proof."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _pump(sock: socket.socket, stream: Stream) -> None:
    """Both ways until either end is done; then both are closed."""
    reader, writer = await asyncio.open_connection(sock=sock)

    async def up() -> None:
        while data := await reader.read(_CHUNK):
            await stream.write(data)
        await stream.end_input()

    sending = asyncio.create_task(up())
    try:
        with suppress(ConnectionError, LabctlError):
            async for _number, data in stream.read():
                writer.write(data)
                await writer.drain()
    finally:
        sending.cancel()
        writer.close()
        await stream.close()
