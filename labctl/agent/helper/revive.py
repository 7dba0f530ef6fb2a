"""Makes the clients of a dead endpoint notice at once, so that they don't wait for it.

conntrack.py calls this when the new rules are applied. First the tracked entries are deleted, so the client's next packet is a new connection for the
kernel and takes the new way. But a client may send nothing for a long time, so each one is made to send:

- A client that waits for the answer to its first packet: we send that packet again for it (syns.py kept a copy). A living endpoint answers, and the
  client never notices.
- A client that is connected gets a SYN-ACK that belongs to no connection. TCP answers such a packet with the number it expects next (the challenge ACK
  of RFC 5961). That answer goes to a living endpoint, which does not know the connection and resets it.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from typing import Dict, Iterable, List, NamedTuple, Set, Tuple

from . import commands
from .syns import Syns

UNANSWERED = "SYN_SENT"
CONNECTED = ("ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT", "LAST_ACK", "SYN_RECV")
SENT_MAX = 10_000
_ENTRY = re.compile(r"^tcp +6 +\d+ (\w+) +src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+) .*?src=(\S+) dst=\S+ sport=(\d+) ")
_SYN_ACK, _WINDOW = 0x12, 1024


class Connection(NamedTuple):
    """A client, the Service that it connected to, and the endpoint that was chosen for it."""

    state: str
    client: str
    client_port: int
    service: str
    service_port: int
    endpoint: str
    endpoint_port: int

    @property
    def to(self) -> Tuple[str, int]:
        """The endpoint's address and port."""
        return self.endpoint, self.endpoint_port


def connections(endpoints: Set[Tuple[str, int]]) -> List[Connection]:
    """Return the kernel's tracked TCP connections through Services to these endpoints, at most SENT_MAX of each."""
    found: List[Connection] = []
    counts: Dict[Tuple[str, int], int] = {}
    for line in commands.lines(["conntrack", "-L", "-p", "tcp", "--dst-nat"], check=False):
        match = _ENTRY.search(line)
        if match is None or (match[6], int(match[7])) not in endpoints:
            continue
        to = match[6], int(match[7])
        counts[to] = counts.get(to, 0) + 1
        if counts[to] <= SENT_MAX:
            found.append(Connection(match[1], match[2], int(match[4]), match[3], int(match[5]), match[6], int(match[7])))
    return found


def revive(found: Iterable[Connection], syns: Syns) -> int:
    """Send each client its packet. Their tracked entries must be deleted already. Return how many packets were sent."""
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.setblocking(False)
        for connection in list(found)[:SENT_MAX]:
            packet = _packet(connection, syns)
            if packet:
                with contextlib.suppress(OSError):
                    raw.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
                    sent += 1
    return sent


def _packet(connection: Connection, syns: Syns) -> bytes:
    if connection.state == UNANSWERED:
        kept = syns.find((connection.client, connection.client_port, connection.endpoint, connection.endpoint_port))
        return again(kept, connection.service, connection.service_port) if kept else b""
    return out_of_turn(connection) if connection.state in CONNECTED else b""


def again(packet: bytes, address: str, port: int) -> bytes:
    """Return a client's first packet as the client sent it: addressed to the Service, not to an endpoint."""
    header = (packet[0] & 15) * 4
    segment = packet[header : header + (packet[header + 12] >> 4) * 4]
    segment = segment[:2] + struct.pack(">H", port) + segment[4:]
    return _datagram(packet[12:16], socket.inet_aton(address), segment)


def out_of_turn(connection: Connection) -> bytes:
    """Return a SYN-ACK from the Service to a client that is connected to it."""
    ports = (connection.service_port, connection.client_port)
    segment = struct.pack(">HHIIBBHHH", *ports, 0, 0, 5 << 4, _SYN_ACK, _WINDOW, 0, 0)
    return _datagram(socket.inet_aton(connection.service), socket.inet_aton(connection.client), segment)


def _datagram(source: bytes, destination: bytes, segment: bytes) -> bytes:
    """Return an IP packet with a TCP segment, whose checksum is computed. The kernel fills in the checksum of IP."""
    pseudo = source + destination + struct.pack(">BBH", 0, socket.IPPROTO_TCP, len(segment))
    blank = segment[:16] + b"\0\0" + segment[18:]
    segment = blank[:16] + struct.pack(">H", _checksum(pseudo + blank)) + blank[18:]
    return struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, socket.IPPROTO_TCP, 0, source, destination) + segment


def _checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
