"""The server's loop: it reads queries from pods and the minion over UDP and TCP, requests of helpers over a Unix socket, and other servers' answers.

    pod ── 10.247.0.10:53 ── the proxy's rules ──► MINION:10053 ─► answers.py ─► zone.py
    helper ── frames of JSON ──► control ─► zone                       └─► upstream.py ── the machine's own DNS server

It has one thread and one selector. A slow client delays nobody. A client that floods is read only a few times before the others get their turn, and fills
a queue that it shares with few (queues.py).
It answers only pods and the minion itself, because it asks other servers for its clients.
"""

from __future__ import annotations

import contextlib
import ipaddress
import selectors
import socket
import time
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import upstream, wire
from .answers import Answers, Ask, Ready
from .queues import queues_at
from .tcp import Connection, Tcp
from .wire import Record
from .zone import Found, Settings, Zone

PACKETS_AT_ONCE = 64
FAILING = ("servfail", "drop")
"""What a fault may make of every answer."""
Send = Callable[[bytes], None]


def is_own_address(address: str) -> bool:
    """Tell whether an address is one of this machine's own. With several links, the machine's queries may come from any of them.

    The kernel knows: it sends to one of its own addresses from that same address. (Binding proves less, because `ip_nonlocal_bind` allows any address.)
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
            return bool(probe.getsockname()[0] == address)
        except OSError:
            return False


class Server:
    """The server for one zone. Call `use` when the zone is another one, and `changed` when its names have changed."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        resolver: Callable[[], str],
        upstream_port: int = upstream.PORT,
        own: Callable[[str], bool] = is_own_address,
    ) -> None:
        self._selector = selector
        self._own = own
        self._resolver = resolver
        self._upstream_port = upstream_port
        self._answers = Answers(Zone(Settings()))
        self._upstream = upstream.Upstream(selector, [])
        self._udp: List[socket.socket] = []
        self._tcp: Optional[Tcp] = None
        self._place: Tuple[str, int] = ("", 0)
        self._networks: List[ipaddress.IPv4Network] = []
        self._known: Dict[str, bool] = {}
        self.failing = ""  # one of FAILING while a fault lasts
        self.mistake = ""  # the last one of ours; the master is told

    @property
    def zone(self) -> Zone:
        return self._answers.zone

    def use(self, zone: Zone, place: Tuple[str, int], networks: List[str]) -> None:
        """Answer the clients of these networks with this zone, at this address and port. Raises OSError if it can't listen there."""
        if place != self._place:
            self._listen(place)
        self._networks = [ipaddress.IPv4Network(each) for each in (*networks, f"{place[0]}/32", "127.0.0.0/8")]
        self._known.clear()
        self._upstream.close()
        self._upstream = upstream.Upstream(self._selector, upstream.servers(self._resolver(), zone.settings.server), self._upstream_port)
        self._answers.changed(zone)

    def changed(self) -> None:
        self._answers.changed(self.zone)

    def turn(self, most_s: float) -> None:
        """Wait at most so many seconds for something to do, and do it."""
        now = time.monotonic()
        waits = [each for each in (self._upstream.wait_s(now), self._tcp.wait_s(now) if self._tcp else None, most_s) if each is not None]
        for key, mask in self._selector.select(min(waits)):
            if self._is_registered(key):
                key.data(mask)
        now = time.monotonic()
        self._upstream.late(now)
        if self._tcp is not None:
            self._tcp.late(now)

    def close(self) -> None:
        self._upstream.close()
        for udp in self._udp:
            self._selector.unregister(udp)
            udp.close()
        self._udp = []
        if self._tcp is not None:
            self._tcp.close()
            self._tcp = None

    def _is_registered(self, key: selectors.SelectorKey) -> bool:
        """Tell whether a socket is still registered; another callback of this turn may have closed it."""
        with contextlib.suppress(KeyError, ValueError):
            return self._selector.get_key(key.fileobj).data is key.data
        return False

    def _listen(self, place: Tuple[str, int]) -> None:
        queues: List[socket.socket] = []
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setblocking(False)
            listening.bind(place)  # first: another server's port is taken for TCP, but not for queues
            listening.listen(128)
            queues += queues_at(place)
        except OSError:
            for each in (*queues, listening):
                each.close()
            raise
        self.close()
        self._udp, self._place = queues, place
        for udp in queues:
            self._selector.register(udp, selectors.EVENT_READ, partial(self._packets, udp))
        self._tcp = Tcp(self._selector, listening, self._allowed, self._query_over_tcp)

    def _allowed(self, client: str) -> bool:
        known = self._known.get(client)
        if known is None:
            if len(self._known) > 10_000:
                self._known.clear()
            address = ipaddress.IPv4Address(client)
            known = self._known[client] = any(address in network for network in self._networks) or self._own(client)
        return known

    def _packets(self, udp: socket.socket, _mask: int) -> None:
        for _ in range(PACKETS_AT_ONCE):
            try:
                data, client = udp.recvfrom(wire.TCP_BYTES)
            except OSError:  # nothing more; or what we sent earlier was refused
                return
            if self._allowed(client[0]):
                self._handle(data, client[0], False, partial(_send, udp, client))

    def _query_over_tcp(self, connection: Connection, data: bytes) -> None:
        assert self._tcp is not None
        self._handle(data, connection.client, True, partial(self._tcp.send, connection))

    def _handle(self, data: bytes, client: str, over_tcp: bool, send: Send) -> None:
        if self.failing:
            self._fail(data, send)
            return
        try:
            said = self._answers.of(data, over_tcp)
        except Exception as error:  # our mistake, with one query: all others must be answered
            self.mistake = f"{type(error).__name__} for the query {data[:300].hex()}: {error}"
            return
        if isinstance(said, Ready):
            send(said.data)
        elif isinstance(said, Ask):
            if said.found is None:
                self._upstream.ask(client, data, said.asked.question, over_tcp, partial(_forward, said.asked, over_tcp, send))
            else:
                query = wire.request(0, said.found.outside, said.asked.type)
                question = query[12:-11]  # between the header and the record of EDNS
                self._upstream.ask(client, query, question, over_tcp, partial(self._complete, said.asked, said.found, over_tcp, send))

    def _fail(self, data: bytes, send: Send) -> None:
        """Answer a query as the injected fault says."""
        with contextlib.suppress(wire.Malformed):
            asked = wire.query(data)
            if asked and self.failing == "servfail":
                send(wire.failure(asked, wire.SERVER_FAILURE))

    def _complete(self, asked: wire.Query, found: Found, over_tcp: bool, send: Send, data: Optional[bytes]) -> None:
        """Add to the answer what another server says about the target of our CNAME. Without such an answer the client gets the CNAME alone."""
        code = wire.SERVER_FAILURE
        more: List[Record] = []
        if data is not None:
            with contextlib.suppress(wire.Malformed):
                code, more = wire.records(data)
        kept: List[Record] = [record for record in more if record.type in (asked.type, wire.CNAME)]
        send(self._answers.answer(asked, Found(code, [*found.answers, *kept], []), over_tcp))


def _forward(asked: wire.Query, over_tcp: bool, send: Send, data: Optional[bytes]) -> None:
    if data is None:
        send(wire.failure(asked, wire.SERVER_FAILURE))
    elif not over_tcp and len(data) > asked.answer_bytes:
        send(wire.truncated(asked))
    else:
        send(asked.id.to_bytes(2, "big") + data[2:])


def _send(udp: socket.socket, client: Any, data: bytes) -> None:
    with contextlib.suppress(OSError):  # a full queue, or a client that is gone
        udp.sendto(data, client)
