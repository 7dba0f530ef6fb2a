"""Queues for the packets of one UDP port, so that a client that floods fills its own and not everybody's.

The kernel drops what comes when a socket's queue is full. With one socket a pod that sends 80,000 queries a second made three of eight others wait for a second
try. So there are several sockets, and a small program says for each packet which one it belongs to, by the address that it came from: SO_REUSEPORT
with a classic BPF program (man 7 socket). Root's programs in the machine's own network may bind to the port, too, as they may read all of its packets;
the program here gives theirs nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from typing import List, Tuple

QUEUES = 16
_QUEUE_BYTES = 1 << 18
_SO_ATTACH_REUSEPORT_CBPF = 51
_LOAD_WORD, _MODULO, _RETURN = 0x20, 0x94, 0x16
_SOURCE_ADDRESS = 0xFFF00000 + 12  # in the IP header, which lies before what the program is given (SKF_NET_OFF)


def queues_at(place: Tuple[str, int]) -> List[socket.socket]:
    """Return sockets that do not block, bound to the same address and port. Raises OSError if it can't be had."""
    made: List[socket.socket] = []
    try:
        for _ in range(QUEUES):
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.append(udp)
            udp.setblocking(False)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _QUEUE_BYTES)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            udp.bind(place)
        with contextlib.suppress(OSError):  # without the program the kernel divides by address and port
            _divide(made[0])
    except OSError:
        for udp in made:
            udp.close()
        raise
    return made


def _divide(udp: socket.socket) -> None:
    steps = ((_LOAD_WORD, _SOURCE_ADDRESS), (_MODULO, QUEUES), (_RETURN, 0))
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", code, 0, 0, value) for code, value in steps))
    udp.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, struct.pack("HP", len(steps), ctypes.addressof(program)))
