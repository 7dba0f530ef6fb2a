"""TCP: one listener for each Service port. Each connection is joined to one backend until both directions have ended."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from typing import Dict, Optional, Set

from .balance import Backend, Balance

CONNECT_S = 2.0
CHUNK_BYTES = 64 << 10


class TcpPort:
    """One Service port that listens at `address`. Raises OSError in `open` if it can't listen there."""

    def __init__(self, address: str, port: int) -> None:
        self.balance = Balance()
        self._address, self._port = address, port
        self._server: Optional[asyncio.AbstractServer] = None
        self._joined: Set[asyncio.Task] = set()
        self._attempts: Dict[Backend, Set[asyncio.Future]] = {}

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, self._address, self._port, backlog=512, limit=CHUNK_BYTES)

    async def close(self) -> None:
        """Accept no new connections. Those that are joined go on, because their pods may still run."""
        if self._server is not None:
            self._server.close()

    def drop(self, gone: Backend) -> None:
        """Let connections that are still being made to this backend try the next one at once. Those that are made end by themselves."""
        for attempt in self._attempts.pop(gone, set()):
            attempt.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._joined.add(task)
        try:
            client = writer.get_extra_info("peername")[0]
            backend = await self._reach(client)
            if backend is None:
                _reset(writer)
                return
            await asyncio.gather(_pour(reader, backend[1]), _pour(backend[0], writer))
            await _finish(backend[1])
        finally:
            self._joined.discard(task)
            await _finish(writer)

    async def _reach(self, client: str) -> Optional[tuple]:
        """Return the streams of the first backend that accepts, or None. Each backend is tried once, also one that was added meanwhile."""
        tried: Set[Backend] = set()
        while True:
            backend = next((one for one in self.balance.pick(client, time.monotonic()) if one not in tried), None)
            if backend is None:
                return None
            tried.add(backend)
            streams = await self._connect(backend)
            if streams is not None:
                self.balance.served(client, backend, time.monotonic())
                streams[1].get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return streams

    async def _connect(self, backend: Backend) -> Optional[tuple]:
        """Return the streams, or None if the backend does not accept within CONNECT_S or is dropped meanwhile."""
        attempt = asyncio.ensure_future(asyncio.open_connection(*backend, limit=CHUNK_BYTES))
        attempts = self._attempts.setdefault(backend, set())
        attempts.add(attempt)
        try:
            await asyncio.wait({attempt}, timeout=CONNECT_S)
            return attempt.result() if attempt.done() and not attempt.cancelled() and attempt.exception() is None else None
        finally:
            attempt.cancel()
            attempts.discard(attempt)
            if not attempts and self._attempts.get(backend) is attempts:
                del self._attempts[backend]


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction until its end. The other direction may go on (a half-closed connection)."""
    with contextlib.suppress(OSError):
        while True:
            data = await reader.read(CHUNK_BYTES)
            if not data:
                break
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Reset the connection, which tells the client more clearly than an orderly end that nobody serves."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _finish(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
