"""Ends a WebSocket whose client does not mask its frames, as RFC 6455 demands (section 5.1): aiohttp's reader takes them.

The mask keeps what a page in a browser sends from looking like a request to a proxy on the way. Used by Connection for each WebSocket; it looks at the
frames' heads only, and passes on what comes.
"""

from __future__ import annotations

from typing import Any

_MASKED = 0x80
_TWO_BYTES = 0xFE  # with the mask's bit: not the length, but that two bytes have it; with one more, eight
_SMALL_HEAD_BYTES = 6  # two, and the mask
_MASK_BYTES = 4
_NEVER_RIGHT = bytes([0xF0, _MASKED, 0, 0, 0, 0])
"""A frame with reserved bits. aiohttp's reader ends the WebSocket with 1002, a protocol error, in its own order: after what came before."""


class MaskedOnly:
    """Stands before aiohttp's reader, and is fed in its stead."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self._held = b""  # the begin of a frame, until it says whether there is a mask and how long the frame is: at most nine bytes
        self._rest_bytes = 0  # of a frame, still to come

    def feed_eof(self) -> None:
        self._reader.feed_eof()

    def feed_data(self, data: bytes) -> Any:
        data = self._held + data
        at, end = self._rest_bytes, len(data)
        while at + 1 < end:
            size = data[at + 1]
            if size < _MASKED:
                self._reader.feed_data(data[:at])
                return self._reader.feed_data(_NEVER_RIGHT)
            if size < _TWO_BYTES:
                at += size - _MASKED + _SMALL_HEAD_BYTES
                continue
            payload = at + 2 + (2 if size == _TWO_BYTES else 8)
            if payload > end:
                break
            at = payload + _MASK_BYTES + int.from_bytes(data[at + 2 : payload])
        known = min(at, end)
        self._held, self._rest_bytes = data[known:], at - known
        return self._reader.feed_data(data[:known])
