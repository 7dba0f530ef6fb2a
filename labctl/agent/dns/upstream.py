"""Asks the machine's own DNS servers for names outside the cluster, if the machine has any.

Each query gets a socket of its own, with a random port and number, connected to the server, so that nobody else can answer in its place. Answers are not
cached, so a false answer to one pod never reaches another. The number of waiting queries is bounded, in all and for each client.
"""

from __future__ import annotations

import contextlib
import secrets
import selectors
import socket
import time
from typing import Callable, Dict, List, Optional

from . import wire

WAITING_MAX = 512
WAITING_MOST_OF_ONE = 64
SERVERS_MAX = 3
WAIT_S = 2.0  # for one server
PORT = 53
Done = Callable[[Optional[bytes]], None]
"""Called once, with the server's whole answer, or None if none came."""


def servers(resolver: str, ours: str) -> List[str]:
    """Return the servers of a resolv.conf, except our own. IPv6 servers are left out, because labs have IPv4 only."""
    found = [line.split()[1] for line in resolver.splitlines() if line.startswith("nameserver") and len(line.split()) > 1]
    return [each for each in found if _ipv4(each) and each != ours][:SERVERS_MAX]


class _Waiting:
    """One query that waits for an answer: of the first server, then of the next one if the first is silent."""

    def __init__(self, client: str, data: bytes, question: bytes, over_tcp: bool, left: List[str], done: Done) -> None:
        self.client = client
        self.data = data
        self.question = question
        self.over_tcp = over_tcp
        self.left = left
        self.done = done
        self.id = 0
        self.until = 0.0
        self.socket: Optional[socket.socket] = None
        self.buffer = b""
        self.sent = False


class Upstream:
    """The queries that wait for other servers, which listen on `port`."""

    def __init__(self, selector: selectors.BaseSelector, servers: List[str], port: int = PORT) -> None:
        self._selector = selector
        self._servers = servers
        self._port = port
        self._waiting: Dict[_Waiting, None] = {}  # in the order of their deadlines
        self._of_client: Dict[str, int] = {}

    def ask(self, client: str, data: bytes, question: bytes, over_tcp: bool, done: Done) -> None:
        """Ask the servers. `data` is the query as the client sent it; on the way to the server it has another number."""
        crowded = len(self._waiting) >= WAITING_MAX or self._of_client.get(client, 0) >= WAITING_MOST_OF_ONE
        if crowded or not self._servers:
            done(None)
            return
        one = _Waiting(client, data, question, over_tcp, list(self._servers), done)
        self._of_client[client] = self._of_client.get(client, 0) + 1
        self._waiting[one] = None
        self._next(one)

    def wait_s(self, now: float) -> Optional[float]:
        """Return the seconds until the next deadline of a waiting query."""
        return max(0.0, next(iter(self._waiting)).until - now) if self._waiting else None

    def late(self, now: float) -> None:
        for one in [one for one in self._waiting if one.until <= now]:
            self._next(one)

    def readable(self, one: _Waiting) -> None:
        """Handle what the selector saw on a query's socket."""
        assert one.socket is not None
        try:
            if not one.sent:
                self._send_over_tcp(one)
                return
            data = one.socket.recv(wire.TCP_BYTES + 2)
        except BlockingIOError:
            return
        except OSError:
            self._next(one)
            return
        if one.over_tcp:
            one.buffer += data
            size = int.from_bytes(one.buffer[:2], "big")
            if not data:
                self._next(one)
            if not data or len(one.buffer) < 2 + size:
                return
            data = one.buffer[2 : 2 + size]
        if wire.belongs(data, one.id, one.question):
            self._end(one, data)

    def close(self) -> None:
        for one in list(self._waiting):
            self._end(one, None)

    def _next(self, one: _Waiting) -> None:
        """Ask the next server, or give up."""
        self._forget_socket(one)
        while one.left:
            server = one.left.pop(0)
            try:
                self._open(one, server)
                return
            except OSError:
                self._forget_socket(one)
        self._end(one, None)

    def _open(self, one: _Waiting, server: str) -> None:
        del self._waiting[one]
        self._waiting[one] = None  # it is the last whose time is up
        one.id, one.buffer, one.until, one.sent = secrets.randbelow(1 << 16), b"", time.monotonic() + WAIT_S, not one.over_tcp
        one.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM if one.over_tcp else socket.SOCK_DGRAM)
        one.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):  # TCP only: it goes on by itself
            one.socket.connect((server, self._port))
        if not one.over_tcp:
            one.socket.send(one.id.to_bytes(2, "big") + one.data[2:])
        events = selectors.EVENT_WRITE if one.over_tcp else selectors.EVENT_READ
        self._selector.register(one.socket, events, lambda _mask: self.readable(one))

    def _send_over_tcp(self, one: _Waiting) -> None:
        """Send the query when the connection is made. Raises OSError if it was refused."""
        assert one.socket is not None
        query = one.id.to_bytes(2, "big") + one.data[2:]
        if one.socket.send(len(query).to_bytes(2, "big") + query) != len(query) + 2:
            raise OSError("a query that does not fit into an empty socket")
        one.sent = True
        self._selector.modify(one.socket, selectors.EVENT_READ, lambda _mask: self.readable(one))

    def _forget_socket(self, one: _Waiting) -> None:
        if one.socket is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(one.socket)
            one.socket.close()
            one.socket = None

    def _end(self, one: _Waiting, data: Optional[bytes]) -> None:
        self._forget_socket(one)
        del self._waiting[one]
        self._of_client[one.client] -= 1
        if not self._of_client[one.client]:
            del self._of_client[one.client]
        one.done(data)


def _ipv4(text: str) -> bool:
    try:
        socket.inet_aton(text)
    except OSError:
        return False
    return text.count(".") == 3
