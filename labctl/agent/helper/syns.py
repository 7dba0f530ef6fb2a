"""Keeps the first packets of TCP connections to Services for two seconds, so that those sent to a machine that just died can be sent again.

A client whose first packet (SYN) is lost sends it again after a second, and nothing on this machine can make it do so earlier. So the proxy's rules
copy each such packet to a netlink group (iptables' NFLOG; the nat table sees first packets only). The kernel queues the copies on this socket at no
cost to the helper, which empties the queue twice a second. When the master says that an endpoint is dead, `revive.py` sends them again.

The netlink protocol is defined in the kernel's include/uapi/linux/netfilter/nfnetlink_log.h.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import Dict, Iterator, Optional, Tuple

GROUP = 246
KEPT_S = 2.0
KEPT_MAX = 20_000
_QUEUE_BYTES = 8 << 20
_COPIED_BYTES = 160  # the headers of IP and TCP with all their options
_NETLINK_NETFILTER, _SO_RCVBUFFORCE, _NETLINK_NO_ENOBUFS, _SOL_NETLINK = 12, 33, 5, 270
_PACKET, _CONFIG = 0x400, 0x401  # subsystem 4 (ULOG), and the message
_CFG_CMD, _CFG_MODE, _CFG_QTHRESH, _PAYLOAD = 1, 2, 5, 9
_BIND, _COPY_PACKET = 1, 2

Flow = Tuple[str, int, str, int]
"""Source and its port, destination and its port, as they are when the packet leaves this machine (but before it is masqueraded)."""


class Syns:
    """The packets that were kept. `take` reads the kernel's queue. Where the kernel has no such group, nothing is ever found."""

    def __init__(self) -> None:
        self._kept: Dict[Flow, Tuple[float, bytes]] = {}
        self._socket = _listen()

    def take(self) -> None:
        """Read the packets that came, and forget those that are too old."""
        now = time.monotonic()
        for packet in self._packets():
            flow = _flow(packet)
            if flow is not None:
                self._kept.pop(flow, None)
                self._kept[flow] = (now, packet)
        while self._kept:
            oldest = next(iter(self._kept))
            if len(self._kept) <= KEPT_MAX and now - self._kept[oldest][0] <= KEPT_S:
                return
            del self._kept[oldest]

    def find(self, flow: Flow) -> Optional[bytes]:
        """Return the first packet of a connection, from its IP header on, or None."""
        return self._kept.get(flow, (0.0, None))[1]

    def _packets(self) -> Iterator[bytes]:
        if self._socket is None:
            return
        with contextlib.suppress(BlockingIOError, OSError):
            for _ in range(KEPT_MAX):
                yield from _payloads(self._socket.recv(1 << 16))


def _listen() -> Optional[socket.socket]:
    try:
        made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    except OSError:
        return None
    made.bind((0, 0))
    with contextlib.suppress(OSError):
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _QUEUE_BYTES)
        made.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)  # a full queue drops the newest; that is no error
    made.send(_configuration(_CFG_CMD, struct.pack("B", _BIND)))
    made.send(_configuration(_CFG_MODE, struct.pack(">IBx", _COPIED_BYTES, _COPY_PACKET)))
    made.send(_configuration(_CFG_QTHRESH, struct.pack(">I", 1)))  # a copy is handed over at once
    made.setblocking(False)
    return made


def _configuration(kind: int, value: bytes) -> bytes:
    attribute = struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)
    body = struct.pack(">BBH", socket.AF_UNSPEC, 0, GROUP) + attribute
    return struct.pack("=IHHII", 16 + len(body), _CONFIG, 1, 0, 0) + body  # flags 1: a request


def _payloads(data: bytes) -> Iterator[bytes]:
    """Yield the packets in one read of netlink messages."""
    at = 0
    while at + 20 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if length < 16:
            return
        if kind == _PACKET:
            yield from _attributes(data[at + 20 : at + length])
        at += length + (-length % 4)


def _attributes(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        if kind & 0x7FFF == _PAYLOAD:
            yield data[at + 4 : at + length]
        at += length + (-length % 4)


def _flow(packet: bytes) -> Optional[Flow]:
    """Return the packet's flow, or None if it is not the first packet of a TCP connection over IPv4 with all its headers."""
    header = (packet[0] & 15) * 4 if packet else 0
    if header < 20 or packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP or len(packet) < header + 20:
        return None
    if packet[header + 13] & 0x12 != 0x02 or len(packet) < header + (packet[header + 12] >> 4) * 4:
        return None
    source, destination = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
    ports = struct.unpack_from(">HH", packet, header)
    return source, ports[0], destination, ports[1]
