"""A cheap stamp of the iptables tables, which tells whether somebody changed them. The helper reads it twice a second.

nft counts a generation for each network namespace, one more for every commit; one netlink message reads it. Legacy tables tell how many entries and
bytes they have; one getsockopt for each table reads that. No rule is read. If the stamp is not the one we left, all rules are read once.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from typing import Optional

_NETLINK_NETFILTER, _NFNL_SUBSYS_NFTABLES, _NFT_MSG_GETGEN, _NFTA_GEN_ID, _REQUEST = 12, 10, 16, 1, 1
_IPT_SO_GET_INFO, _IPT_INFO = 64, struct.Struct("=32sI5I5III")

Stamp = tuple  # compared as a whole


class NftStamp:
    """The generation of this network namespace's nftables."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        self._socket.settimeout(2.0)

    def read(self) -> Stamp:
        self._socket.send(struct.pack("=IHHIIBBH", 20, _NFNL_SUBSYS_NFTABLES << 8 | _NFT_MSG_GETGEN, _REQUEST, 1, 0, 0, 0, 0))
        data = self._socket.recv(4096)
        at = 20  # after the headers of netlink and nfnetlink
        while at + 8 <= len(data):
            length, kind = struct.unpack_from("=HH", data, at)
            if kind == _NFTA_GEN_ID:
                return (struct.unpack_from(">I", data, at + 4)[0],)
            at += length + (-length % 4)
        raise OSError(f"nftables answered {data[:32]!r}")

    @staticmethod
    def after(before: Stamp, commits: int) -> Optional[Stamp]:
        """Return the stamp after so many commits of ours if nobody else commits."""
        return ((before[0] + commits) & 0xFFFFFFFF,)


class LegacyStamp:
    """How many entries and bytes the tables have. A table that was never used has none."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def read(self) -> Stamp:
        return tuple(self._size(table) for table in (b"nat", b"filter"))

    def _size(self, table: bytes) -> tuple:
        buffer = ctypes.create_string_buffer(_IPT_INFO.pack(table, *[0] * 13), _IPT_INFO.size)
        length = ctypes.c_uint(_IPT_INFO.size)
        if self._libc.getsockopt(self._socket.fileno(), socket.SOL_IP, _IPT_SO_GET_INFO, buffer, ctypes.byref(length)):
            number = ctypes.get_errno()
            if number == 2:  # ENOENT
                return (0, 0)
            raise OSError(number, os.strerror(number))
        return _IPT_INFO.unpack(buffer.raw)[-2:]

    @staticmethod
    def after(before: Stamp, commits: int) -> Optional[Stamp]:
        """Return None, because the sizes can't be predicted. The caller takes the stamp that it reads after its own restore."""
        return None
