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
    ERROR = (2).to_bytes(2, sys.byteorder)  # NLMSG_ERROR

    def __init__(self):
        self.flow, self.parts = None, (b"", b"", b"")
        self.socket: socket.socket | None
        try:
            self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, self.NETFILTER)
        except OSError:
            self.socket = None

    def answering(self, here, there, protocol):
        """Returns who answers what was sent from each of the places `here` to `there` (6 is TCP, 17 UDP): an address, or "" where the kernel does not know.

        All questions travel in one packet; each is answered by one of its own, in a sequence that its number tells.
        """
        found = [""] * len(here)
        if self.socket is None or not here:
            return found
        try:
            self.socket.send(b"".join([self.question(number, place, there, protocol) for number, place in enumerate(here)]))
            for _ in here:
                answer = self.socket.recv(4096)
                if len(answer) >= 84 and answer[4:6] != self.ERROR:  # an error says that there is no such connection
                    reply = 20 + int.from_bytes(
                        answer[20:22], sys.byteorder
                    )  # the tuple of the answers comes after the one that was asked for
                    number = int.from_bytes(answer[8:12], sys.byteorder)
                    if number < len(found):
                        found[number] = socket.inet_ntoa(answer[reply + 12 : reply + 16])
        except OSError:
            pass
        return found

    def question(self, number, here, there, protocol):
        address, port = here
        flow = address, there, protocol
        if flow != self.flow:  # all but the number and the port stays the same from question to question
            whole = self.QUERY.pack(
                72, self.GET, self.REQUEST, 0, 0, socket.AF_INET, 0, 0,
                52, self.NESTED | 1, 20, self.NESTED | 1, 8, 1, socket.inet_aton(address), 8, 2, socket.inet_aton(there[0]),
                28, self.NESTED | 2, 5, 1, protocol, 6, 2, b"  ", 6, 3, there[1].to_bytes(2, "big"),
            )  # fmt: skip
            self.flow, self.parts = flow, (whole[:8], whole[12:60], whole[62:])
        before, between, after = self.parts
        return before + number.to_bytes(4, sys.byteorder) + between + port.to_bytes(2, "big") + after
