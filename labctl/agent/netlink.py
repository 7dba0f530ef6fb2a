"""Just enough rtnetlink to wire a pod: links, addresses, routes, neighbours. One request, one answer, no process forked.

A Netlink socket belongs to the network namespace of the thread that made it, for as long as it lives.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Iterator

_ACK, _CREATE, _EXCLUSIVE, _REPLACE, _DUMP = 0x5, 0x400, 0x200, 0x100, 0x301
_NEWLINK, _DELLINK, _NEWADDR, _NEWROUTE, _GETROUTE, _NEWNEIGH = 16, 17, 20, 24, 26, 28
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 4, 5, 7
_UP, _ONLINK, _PERMANENT = 1, 4, 0x80
_MAIN_TABLE, _PROTO_STATIC, _SCOPE_GLOBAL, _SCOPE_LINK, _UNICAST = 254, 4, 0, 253, 1


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def _text(text: str) -> bytes:
    return text.encode() + b"\0"


def _mac(text: str) -> bytes:
    return bytes(int(part, 16) for part in text.split(":"))


def _link(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, change)


class Netlink:
    """Calls raise OSError with the kernel's errno. Use as a context manager."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)  # 0: NETLINK_ROUTE
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def add_veth(self, name: str, mac: str, peer: str, peer_mac: str, peer_namespace: int, mtu: int) -> None:
        """Make a pair: `name` here, `peer` in the namespace behind the file descriptor."""
        size = _attribute(_IFLA_MTU, struct.pack("=I", mtu))
        there = _attribute(_IFLA_IFNAME, _text(peer)) + _attribute(_IFLA_ADDRESS, _mac(peer_mac)) + size
        there += _attribute(_IFLA_NET_NS_FD, struct.pack("=i", peer_namespace))
        data = _attribute(_INFO_DATA, _attribute(_VETH_PEER, _link() + there))
        info = _attribute(_IFLA_LINKINFO, _attribute(_INFO_KIND, b"veth") + data)
        here = _attribute(_IFLA_IFNAME, _text(name)) + _attribute(_IFLA_ADDRESS, _mac(mac)) + size
        self._ask(_NEWLINK, _CREATE | _EXCLUSIVE, _link() + here + info)

    def up(self, name: str) -> None:
        self._ask(_NEWLINK, 0, _link(socket.if_nametoindex(name), _UP, _UP))

    def delete(self, name: str) -> None:
        self._ask(_DELLINK, 0, _link() + _attribute(_IFLA_IFNAME, _text(name)))

    def add_address(self, name: str, address: str, prefix: int) -> None:
        packed = socket.inet_aton(address)
        head = struct.pack("=BBBBi", socket.AF_INET, prefix, 0, _SCOPE_GLOBAL, socket.if_nametoindex(name))
        self._ask(_NEWADDR, _CREATE | _REPLACE, head + _attribute(1, packed) + _attribute(2, packed))

    def add_route(self, name: str, target: str, prefix: int, gateway: str = "", source: str = "") -> None:
        """Through `gateway`, which is taken to be on the link whatever the addresses say; without one, straight onto the link."""
        scope, flags = (_SCOPE_GLOBAL, _ONLINK) if gateway else (_SCOPE_LINK, 0)
        body = struct.pack("=BBBBBBBBI", socket.AF_INET, prefix, 0, 0, _MAIN_TABLE, _PROTO_STATIC, scope, _UNICAST, flags)
        if prefix:
            body += _attribute(_RTA_DST, socket.inet_aton(target))
        body += _attribute(_RTA_OIF, struct.pack("=i", socket.if_nametoindex(name)))
        if gateway:
            body += _attribute(_RTA_GATEWAY, socket.inet_aton(gateway))
        if source:
            body += _attribute(_RTA_PREFSRC, socket.inet_aton(source))
        self._ask(_NEWROUTE, _CREATE | _REPLACE, body)

    def add_neighbour(self, name: str, address: str, mac: str) -> None:
        """Add a permanent entry, so that ARP is never needed and no entry is stale."""
        head = struct.pack("=BxHiHBB", socket.AF_INET, 0, socket.if_nametoindex(name), _PERMANENT, 0, 0)
        self._ask(_NEWNEIGH, _CREATE | _REPLACE, head + _attribute(1, socket.inet_aton(address)) + _attribute(2, _mac(mac)))

    def _ask(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, _ACK | flags, self._sequence, 0) + body)
        for kind, data in self._answers():
            if kind == 2:  # NLMSG_ERROR; 0 is the acknowledgement
                number = -struct.unpack_from("=i", data)[0]
                if number:
                    raise OSError(number, os.strerror(number))
                return

    def _answers(self) -> Iterator[tuple]:
        while True:
            data = self._socket.recv(65536)
            at = 0
            while at + 16 <= len(data):
                length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, at)
                if sequence == self._sequence:
                    yield kind, data[at + 16 : at + length]
                at += length + (-length % 4)


def has_address(address: str) -> bool:
    """Tell whether it is one of this machine's own addresses (in the calling thread's network namespace)."""
    if not address:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
            return True
        except OSError:
            return False
