"""Bounds what a body in chunks (`Transfer-Encoding: chunked`) may cost by its chunks.

Used by each Connection. Every chunk costs the parser the same, whether it carries one byte or 64 KB, so a client that sends one byte in each has the
event loop for itself: 256 KB, as one read brings them, take it a tenth of a second. What is counted is what is sent beside the body: about five bytes
for each chunk. An eighth of the body is always allowed, and everybody has some bytes more, which come back with time: a program that streams a few
bytes now and then, through the proxy to a pod, never notices.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

PART_BYTES = 16 << 10
"""What comes is given to the parser in parts of this size, so that what a body costs is known before all of it is parsed."""

_SPARE_BYTES = 16 << 10  # three thousand chunks of one byte: 8 ms
_SPARE_BYTES_PER_S = 4 << 10
_SHARE = 8  # one byte of framing for so many of a body is always allowed: chunks of 40 bytes
_LINE_BYTES = 4  # a header's colon, space and line end
_HEAD_BYTES = 64  # more than what else a head has: the version, two line ends, and what a client may write in a longer way


class Framing:
    """Counts for one connection."""

    __slots__ = ("_at_s", "_bytes")

    def __init__(self, now_s: float) -> None:
        self._bytes = 0.0
        self._at_s = now_s

    def count(self, sent: int, bodies: int, heads: Iterable[Any]) -> None:
        """Of `sent` bytes, `bodies` belong to bodies, and others to these heads of requests, as aiohttp's parser makes them."""
        self._bytes += sent - bodies - bodies / _SHARE - sum(_head_bytes(head) for head in heads)

    def exceeded(self, now_s: float) -> bool:
        """Is asked while everything that was sent has been read."""
        self._bytes = max(0.0, self._bytes - (now_s - self._at_s) * _SPARE_BYTES_PER_S)
        self._at_s = now_s
        return self._bytes > _SPARE_BYTES


def _head_bytes(head: Any) -> int:
    """Returns about as many bytes as a request's head had on the wire."""
    if not hasattr(head, "raw_headers"):
        return 0  # what was no request
    return _HEAD_BYTES + len(head.method) + len(head.path) + sum(len(name) + len(value) + _LINE_BYTES for name, value in head.raw_headers)
