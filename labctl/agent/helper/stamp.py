"""Did anybody touch the tables? Asked of the kernel twice a second, so it must cost next to nothing.

nft keeps a generation number per network namespace, one more for every commit: one netlink message. Legacy tables answer how many entries and bytes
they have: one getsockopt each. Neither reads a rule. A stamp that is not the one we left means: read them all, once, and tell the master.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from typing import Optional

_NETLINK_NETFILTER, _NFNL_SUBSYS_NFTABLES, _NFT_MSG_GETGEN, _NFTA_GEN_ID, _REQUEST = 12, 10, 16, 1, 1
_IPT_SO_GET_INFO, _IPT_INFO = 64, struct.Struct("=32sI5I5III")

Stamp = tuple
"""Compared as a whole."""


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
        """What it must be after so many commits of ours and none of anybody else's."""
        return ((before[0] + commits) & 0xFFFFFFFF,)


class LegacyStamp:
    """How many entries and bytes the tables have. A table that nobody used yet has none."""

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
        """Not to be foreseen: what is there after our own restore is believed."""
        return None
