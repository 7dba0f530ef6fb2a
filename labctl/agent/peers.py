"""Heartbeats between minions: this one tells a few others that it lives, and notes when it last heard each of them.

Who calls it: main.py runs it; the lease (node.py) carries `report` to the master, which asks the peers before it gives a silent minion up. Who the
peers are, and the key that this minion shares with each of them, is the master's answer at `/labctl/v1/peers`. With Kubernetes' timing there are none.

A heartbeat is one UDP packet: a nonce, the last nonce that was heard from the receiver, the sender's name, and a code (HMAC-SHA256) over these with the
pair's key. It counts only if it returns one of our last nonces. So nobody else can make it, and an old one that is sent again proves nothing.
A minion that stood still knows nothing of the others: after a gap in its own heartbeats all silence counts from its end.
"""

from __future__ import annotations

import asyncio
import binascii
import hmac
import os
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from .client import Api, Refused
from .http import Unreachable

PATH = "/labctl/v1/peers"
VERSION = b"LB1"
NONCE, CODE = 8, 16  # bytes
NO_NONCE = bytes(NONCE)
PACKET_MAX = 160  # bytes
PEERS_MAX = 8
NONCES_KEPT = 16
ASK_S = 5.0  # how often the master is asked who the peers are,
ASK_SOON_S = (
    0.5  # and how often while there are none yet, or some that were never heard: until then nobody could give up a minion that falls silent
)
STOOD_STILL_BEATS = 4  # a gap of so many heartbeats in our own
NEVER_HEARD_S = 3.0  # a peer that was never heard is reported after this, if others are heard

Address = Tuple[str, int]


class Peer:
    """One other minion: the key that is shared with it, and what was heard of it."""

    def __init__(self, name: str, address: Address, key: bytes, now: float) -> None:
        self.name, self.address, self.key = name, address, key
        self.since = now  # since when it is a peer, or since our own last gap
        self.heard: Optional[float] = None
        self.their_nonce = NO_NONCE
        self.our_nonces: Deque[bytes] = deque(maxlen=NONCES_KEPT)


class Table:
    """What is known of all peers. It sends nothing and reads no clock, so simulations use it as it is."""

    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self.peers: Dict[str, Peer] = {}

    def set(self, told: List[Tuple[str, Address, bytes]], now: float) -> None:
        """Take over who the peers are. Those that stay keep what was heard of them."""
        peers = {}
        for name, address, key in told[:PEERS_MAX]:
            old = self.peers.get(name)
            same = old is not None and (old.address, old.key) == (address, key)
            peers[name] = old if old is not None and same else Peer(name, address, key, now)
        self.peers = peers

    def packets(self) -> List[Tuple[Address, bytes]]:
        """Return a heartbeat for each peer."""
        made = []
        for peer in self.peers.values():
            nonce = os.urandom(NONCE)
            peer.our_nonces.append(nonce)
            body = VERSION + nonce + peer.their_nonce + self._name
            made.append((peer.address, body + _code(peer.key, body)))
        return made

    def take(self, packet: bytes, sender: str, now: float) -> bool:
        """Take a packet in. Returns whether it proves that a peer lives; anything else is passed over."""
        if not len(VERSION) + 2 * NONCE + CODE < len(packet) <= PACKET_MAX or not packet.startswith(VERSION):
            return False
        body, code = packet[:-CODE], packet[-CODE:]
        rest = body[len(VERSION) :]
        nonce, echo, name = rest[:NONCE], rest[NONCE : 2 * NONCE], rest[2 * NONCE :]
        peer = self.peers.get(name.decode("ascii", "replace"))
        if peer is None or peer.address[0] != sender or not hmac.compare_digest(code, _code(peer.key, body)):
            return False
        if echo in peer.our_nonces:
            peer.their_nonce, peer.heard = nonce, now
            return True
        if peer.their_nonce == NO_NONCE or peer.heard is None or now - peer.heard > 1.0:
            peer.their_nonce = nonce  # it began anew, or we did: the next one can prove that it is no repetition
        return False

    @property
    def complete(self) -> bool:
        """Tell whether there are peers, and each was heard once."""
        return bool(self.peers) and all(peer.heard is not None for peer in self.peers.values())

    def stood_still(self, now: float) -> None:
        """Let all silence begin now, because this minion itself was asleep."""
        for peer in self.peers.values():
            peer.since = now
            if peer.heard is not None:
                peer.heard = now

    def report(self, now: float) -> str:
        """Say how many seconds ago each peer was heard. A peer that was never heard is named only if others are: else it is our network that is silent."""
        silences = {peer.name: now - peer.heard for peer in self.peers.values() if peer.heard is not None}
        if any(silence < 1.0 for silence in silences.values()):
            silences.update({p.name: now - p.since for p in self.peers.values() if p.heard is None and now - p.since > NEVER_HEARD_S})
        return " ".join(f"{name}={max(0.0, silence):.1f}" for name, silence in sorted(silences.items()))


def _code(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")[:CODE]


class Heartbeats(asyncio.DatagramProtocol):
    """Sends and receives heartbeats over UDP."""

    def __init__(self, name: str, address: str, api: Api, say: Callable[[str], None]) -> None:
        self.table = Table(name)
        self._address, self._api, self._say = address, api, say
        self._transport: Optional[asyncio.DatagramTransport] = None
        self._beat_s = 0.0
        self._port = 0
        self._said = ""

    def report(self) -> str:
        return self.table.report(time.monotonic())

    async def run(self) -> None:
        """Runs until it is cancelled."""
        try:
            await asyncio.gather(self._ask(), self._beat())
        finally:
            self._close()

    async def _ask(self) -> None:
        while True:
            try:
                await self._set(await self._api.get(PATH, timeout_s=5.0))
            except (Unreachable, Refused, OSError, ValueError, KeyError, TypeError) as error:
                self._once(f"peers: {error}")
            await asyncio.sleep(ASK_SOON_S if self._beat_s and not self.table.complete else ASK_S)

    async def _set(self, told: Dict[str, Any]) -> None:
        port, self._beat_s = int(told["port"]), float(told["beatSeconds"])
        peers = [(str(each["name"]), (str(each["address"]), port), binascii.unhexlify(each["key"])) for each in told["peers"]]
        self.table.set(peers, time.monotonic())
        if not peers or not self._beat_s:
            self._close()
        elif self._transport is None or port != self._port:
            self._close()
            local = (self._address or "0.0.0.0", port)
            self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, local_addr=local)
            self._port = port

    async def _beat(self) -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(self._beat_s or 1.0)
            now = time.monotonic()
            if now - before > STOOD_STILL_BEATS * (self._beat_s or 1.0):
                self.table.stood_still(now)
            before = now
            if self._transport is not None:
                for address, packet in self.table.packets():
                    self._transport.sendto(packet, address)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.table.take(data, addr[0], time.monotonic())

    def error_received(self, exc: Exception) -> None:
        """Ignore an ICMP error from a peer that is off. Its silence says the same."""

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)
