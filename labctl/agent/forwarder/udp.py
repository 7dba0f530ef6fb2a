"""UDP: each client gets a socket of its own to one backend, which is kept while datagrams flow."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Dict, Optional, Tuple

from .balance import Backend, Balance

IDLE_S = 60.0
CLIENTS_MAX = 2000

Client = Tuple[str, int]


class UdpPort(asyncio.DatagramProtocol):
    """One Service port that listens at `address`. Datagrams that come while a client's socket is being made wait in its conversation."""

    def __init__(self, address: str, port: int) -> None:
        self.balance = Balance()
        self._address, self._port = address, port
        self._transport: Any = None
        self._clients: Dict[Client, _Conversation] = {}

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, (self._address, self._port))

    async def close(self) -> None:
        for conversation in list(self._clients.values()):
            conversation.end()
        if self._transport is not None:
            self._transport.close()

    def drop(self, gone: Backend) -> None:
        """Forget the clients of this backend. UDP has no end of a connection, so each gets another backend with its next datagram."""
        for conversation in [c for c in self._clients.values() if c.backend == gone]:
            conversation.end()

    def datagram_received(self, data: bytes, addr: Client) -> None:
        conversation = self._clients.get(addr)
        if conversation is None:
            conversation = self._begin(addr)
        if conversation is not None:
            conversation.send(data)

    def answer(self, data: bytes, client: Client) -> None:
        self._transport.sendto(data, client)

    def forget(self, client: Client) -> None:
        self._clients.pop(client, None)

    def _begin(self, client: Client) -> Optional[_Conversation]:
        now = time.monotonic()
        backends = self.balance.pick(client[0], now)
        if not backends:
            return None
        self.balance.served(client[0], backends[0], now)
        if len(self._clients) >= CLIENTS_MAX:
            next(iter(self._clients.values())).end()
        conversation = self._clients[client] = _Conversation(self, client, backends[0])
        return conversation


class _Conversation(asyncio.DatagramProtocol):
    """One client's socket to its backend. It ends after IDLE_S seconds without a datagram."""

    def __init__(self, port: UdpPort, client: Client, backend: Backend) -> None:
        self.backend = backend
        self._port, self._client = port, client
        self._waiting: list = []
        self._transport: Any = None
        self._used = 0.0
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._opening = self._loop.create_task(self._open())
        self._timer = self._loop.call_later(IDLE_S, self._look)

    async def _open(self) -> None:
        try:
            await self._loop.create_datagram_endpoint(lambda: self, remote_addr=self.backend)
        except OSError:
            self.end()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if self._ended:
            transport.close()
        for data in self._waiting:
            transport.sendto(data)
        self._waiting.clear()

    def send(self, data: bytes) -> None:
        self._used = self._loop.time()
        if self._transport is not None:
            self._transport.sendto(data)
        elif len(self._waiting) < 64:
            self._waiting.append(data)

    def datagram_received(self, data: bytes, addr: Client) -> None:
        self._used = self._loop.time()
        self._port.answer(data, self._client)

    def error_received(self, exc: Exception) -> None:
        """Handle the answer of the backend's machine that nobody listens: the client's next datagram tries another backend."""
        self.end()

    def end(self) -> None:
        self._ended = True
        self._timer.cancel()
        self._port.forget(self._client)
        if self._transport is not None:
            self._transport.close()

    def _look(self) -> None:
        idle_s = self._loop.time() - self._used
        if idle_s >= IDLE_S:
            self.end()
        else:
            self._timer = self._loop.call_later(IDLE_S - idle_s, self._look)
