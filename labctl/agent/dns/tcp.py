"""Queries over TCP. Clients use it when an answer did not fit into a packet. Connections are few, short, and bounded for each client."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from typing import Callable, Dict, Optional

CONNECTIONS_MAX = 128
CONNECTIONS_MOST_OF_ONE = 16
QUERY_BYTES_MAX = 4_096
UNSENT_BYTES_MAX = 1 << 18
IDLE_S = 10.0

Handle = Callable[["Connection", bytes], None]


class Connection:
    """One client's connection. `send` may be called at any later time; when the connection is closed, it does nothing."""

    def __init__(self, socket_: socket.socket, client: str) -> None:
        self.socket = socket_
        self.client = client
        self.read = b""
        self.unsent = b""
        self.until = 0.0
        self.open = True


class Tcp:
    """The listener and its connections. It calls `handle(connection, query)` for each query; the answer is given to the connection's `send`."""

    def __init__(self, selector: selectors.BaseSelector, listening: socket.socket, allowed: Callable[[str], bool], handle: Handle) -> None:
        self._selector = selector
        self._listening = listening
        self._allowed = allowed
        self._handle = handle
        self._connections: Dict[Connection, None] = {}  # in the order of their deadlines
        selector.register(listening, selectors.EVENT_READ, lambda _mask: self._accept())

    def send(self, connection: Connection, answer: bytes) -> None:
        if not connection.open:
            return
        connection.unsent += len(answer).to_bytes(2, "big") + answer
        if len(connection.unsent) > UNSENT_BYTES_MAX:
            self._close(connection)
            return
        self._flush(connection)

    def wait_s(self, now: float) -> Optional[float]:
        return max(0.0, next(iter(self._connections)).until - now) if self._connections else None

    def late(self, now: float) -> None:
        for each in [each for each in self._connections if each.until <= now]:
            self._close(each)

    def close(self) -> None:
        self._selector.unregister(self._listening)
        self._listening.close()
        for each in list(self._connections):
            self._close(each)

    def _accept(self) -> None:
        try:
            accepted, (client, _) = self._listening.accept()
        except OSError:  # the client has gone already
            return
        own = sum(each.client == client for each in self._connections)
        if not self._allowed(client) or own >= CONNECTIONS_MOST_OF_ONE or len(self._connections) >= CONNECTIONS_MAX:
            accepted.close()
            return
        accepted.setblocking(False)
        connection = Connection(accepted, client)
        self._selector.register(accepted, selectors.EVENT_READ, lambda mask: self._ready(connection, mask))
        self._alive(connection)

    def _alive(self, connection: Connection) -> None:
        self._connections.pop(connection, None)
        connection.until = time.monotonic() + IDLE_S
        self._connections[connection] = None

    def _ready(self, connection: Connection, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._flush(connection)
        if mask & selectors.EVENT_READ and connection.open:
            self._receive(connection)

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(QUERY_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.read += data
        while data and len(connection.read) >= 2:
            size = int.from_bytes(connection.read[:2], "big")
            if size > QUERY_BYTES_MAX:
                data = b""
                break
            if len(connection.read) < 2 + size:
                return
            query, connection.read = connection.read[2 : 2 + size], connection.read[2 + size :]
            self._alive(connection)
            self._handle(connection, query)
            if not connection.open:
                return
        if not data:
            self._close(connection)

    def _flush(self, connection: Connection) -> None:
        try:
            connection.unsent = connection.unsent[connection.socket.send(connection.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.unsent else 0)
        self._selector.modify(connection.socket, events, lambda mask: self._ready(connection, mask))

    def _close(self, connection: Connection) -> None:
        if connection.open:
            connection.open = False
            del self._connections[connection]
            with contextlib.suppress(KeyError):
                self._selector.unregister(connection.socket)
            connection.socket.close()
