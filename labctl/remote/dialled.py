"""This module lets aiohttp's client, or asyncio's streams, speak TLS and HTTP to a pod over a stream that `Remote.dial` opened.

Both need a socket, so each connection is a socket pair: they use one end, and a task copies between the other end and the stream. The buffers of
the pair give flow control: a slow side stops the copying, and the stream's own bound stops the pod.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from labctl.errors import LabctlError
from labctl.remote.interface import Remote, Stream

_CHUNK = 64 << 10


class DialledConnector(aiohttp.BaseConnector):
    """Connects always to the same address, from the same machine. It is used for one request, then closed. Without `tls`, any certificate of the pod will do."""

    def __init__(
        self, remote: Remote, machine: str, host: str, port: int, *, tls: ssl.SSLContext | None = None, server_name: str = ""
    ) -> None:
        super().__init__(force_close=True)
        self._tls = tls
        self._server_name = server_name
        self._remote = remote
        self._destination = machine, host, port
        self._pumps: set[asyncio.Task[None]] = set()

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> ResponseHandler:
        ours, pump = await _dialled(self._remote, *self._destination)
        self._pumps.add(pump)
        pump.add_done_callback(self._pumps.discard)
        protocol: ResponseHandler | None = None
        tls = (self._tls or any_certificate()) if req.is_ssl() else None
        try:
            _transport, protocol = await self._loop.create_connection(
                self._factory, sock=ours, ssl=tls, server_hostname=self._server_name if tls else None
            )
        except OSError as error:  # the pod speaks no TLS, or no version that we know
            raise aiohttp.ClientConnectionError(str(error)) from error
        finally:
            if protocol is None:
                pump.cancel()
        return protocol


@asynccontextmanager
async def opened(
    remote: Remote, machine: str, host: str, port: int, *, tls: ssl.SSLContext | None, server_name: str | None, limit: int
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Yield a connection as asyncio's streams, whose reader holds `limit` bytes. It is closed in the end. Raises OSError and LabctlError."""
    ours, pump = await _dialled(remote, machine, host, port)
    try:
        reader, writer = await asyncio.open_connection(sock=ours, ssl=tls, server_hostname=server_name, limit=limit)
        try:
            yield reader, writer
        finally:
            writer.close()
    finally:
        pump.cancel()
        with suppress(asyncio.CancelledError):
            await pump


async def _dialled(remote: Remote, machine: str, host: str, port: int) -> tuple[socket.socket, asyncio.Task[None]]:
    """Return a socket that leads to the pod, and the task that copies."""
    stream = await remote.dial(machine, host, port)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    return ours, asyncio.create_task(_pump(theirs, stream))


@cache
def any_certificate() -> ssl.SSLContext:
    """Returns TLS settings that accept any certificate, as Kubernetes' proxy does: pods sign their own, and SSH protects the way to them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _pump(sock: socket.socket, stream: Stream) -> None:
    """Copies in both directions until either end is done, then closes both."""
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
