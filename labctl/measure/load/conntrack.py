"""Who answers a virtual IP, as the kernel's connection tracking knows it (nfnetlink, linux/netfilter/nfnetlink_conntrack.h)."""

from __future__ import annotations

import socket
import struct
import sys


class Conntrack:
    """Asks the kernel who answers a connection to a virtual IP: the kernel notes to which pod a rule sent it.

    The socket belongs to the network namespace in which it was made: the machine's, whose rules decide, also where a pod sends the requests.
    """

    QUERY = struct.Struct("=IHHII" "BBH" "HH" "HH" "HH4s" "HH4s" "HH" "HHB3x" "HH2s2x" "HH2s2x")  # fmt: skip # noqa: ISC001
    GET, REQUEST, NESTED, NETFILTER = 0x101, 1, 0x8000, 12

    def __init__(self):
        self.socket: socket.socket | None
        try:
            self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, self.NETFILTER)
        except OSError:
            self.socket = None

    def answering(self, here, there, protocol):
        """Returns the address that answers what was sent from `here` to `there` (6 is TCP, 17 UDP), or "" if the kernel does not know."""
        if self.socket is None:
            return ""
        query = self.QUERY.pack(
            72, self.GET, self.REQUEST, 0, 0, socket.AF_INET, 0, 0,
            52, self.NESTED | 1, 20, self.NESTED | 1, 8, 1, socket.inet_aton(here[0]), 8, 2, socket.inet_aton(there[0]),
            28, self.NESTED | 2, 5, 1, protocol, 6, 2, here[1].to_bytes(2, "big"), 6, 3, there[1].to_bytes(2, "big"),
        )  # fmt: skip
        try:
            self.socket.send(query)
            answer = self.socket.recv(4096)
        except OSError:
            return ""
        if len(answer) < 84 or int.from_bytes(answer[4:6], sys.byteorder) == 2:  # NLMSG_ERROR: no such connection
            return ""
        reply = 20 + int.from_bytes(answer[20:22], sys.byteorder)  # after the tuple that was asked for, the tuple of the answers
        return socket.inet_ntoa(answer[reply + 12 : reply + 16])
