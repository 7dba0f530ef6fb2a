"""This module encodes and decodes SPDY/3.1 frames, as far as exec, attach and port-forward need them. It uses no sockets.

The frames come in a connection of their own (spdy_channels.py) or in the messages of kubectl's WebSocket (forward.py). A control frame is
`1 version:15 type:16 | flags:8 length:24 | data`, a data frame `0 stream:31 | flags:8 length:24 | data`. Header blocks share one zlib stream
per direction, primed with a dictionary that both sides know. Neither kubectl nor the kubelet keeps SPDY's flow control, so nor does this.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping

import msgspec

VERSION = 3
SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FIN = 1
CANCEL = 5
MAX_FRAME = 16 << 20
MAX_HEADERS = 16 << 10
"""The most bytes of a header block, unpacked: a few short words name a stream, and 16 KB can unpack to 16 MB."""

_HEAD = struct.Struct(">II")
_WORD = struct.Struct(">I")


class Opened(msgspec.Struct, frozen=True):
    """The client opened a stream. The names of its headers are in lower case."""

    stream: int
    headers: Mapping[str, str]
    fin: bool = False


class Data(msgspec.Struct, frozen=True):
    stream: int
    data: bytes
    fin: bool = False


class Reset(msgspec.Struct, frozen=True):
    stream: int


class Ping(msgspec.Struct, frozen=True):
    id: int


class GoAway(msgspec.Struct, frozen=True):
    """The client will open no more streams."""


Frame = Opened | Data | Reset | Ping | GoAway


class ProtocolError(Exception):
    """The bytes are not valid SPDY/3."""


class Framer:
    """One side of one connection. `feed` decodes received bytes into frames; the other methods return bytes to send."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(level=9, zdict=DICTIONARY)
        self._opened = 0  # the number of the stream that was opened last; numbers only grow

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yields the frames that are complete now. Raises ProtocolError."""
        self._buffer += data
        while len(self._buffer) >= _HEAD.size:
            first, second = _HEAD.unpack_from(self._buffer)
            length = second & 0xFFFFFF
            end = _HEAD.size + length
            if length > MAX_FRAME:
                raise ProtocolError(f"a frame of {length} bytes")
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_HEAD.size : end])
            del self._buffer[:end]
            frame = self._frame(first, second >> 24, body)
            if frame is not None:
                yield frame

    def _frame(self, first: int, flags: int, body: bytes) -> Frame | None:
        if not first >> 31:
            return Data(first, body, bool(flags & FIN))
        version, kind = (first >> 16) & 0x7FFF, first & 0xFFFF
        if version != VERSION:
            raise ProtocolError(f"SPDY version {version}")
        try:
            return self._control(kind, flags, body)
        except (struct.error, zlib.error) as error:
            raise ProtocolError(str(error)) from error

    def _control(self, kind: int, flags: int, body: bytes) -> Frame | None:
        if kind == SYN_STREAM:
            stream = _WORD.unpack_from(body)[0] & 0x7FFFFFFF
            if stream <= self._opened:
                raise ProtocolError(f"stream {stream} after {self._opened}")
            self._opened = stream
            return Opened(stream, self._headers(body[10:]), bool(flags & FIN))
        if kind == HEADERS:
            self._headers(body[4:])  # the headers are not needed, but the decompressor must see all of its stream
            return None
        if kind == RST_STREAM:
            return Reset(_WORD.unpack_from(body)[0])
        if kind == PING:
            return Ping(_WORD.unpack_from(body)[0])
        if kind == GOAWAY:
            return GoAway()
        return None  # SETTINGS, WINDOW_UPDATE and unknown frames are ignored

    def _headers(self, block: bytes) -> dict[str, str]:
        """Decodes a header block: `count, (length, name, length, value)...`. NUL separates several values of one name."""
        plain = self._inflate.decompress(block, MAX_HEADERS)
        if self._inflate.unconsumed_tail:
            raise ProtocolError("headers of more than 16 KB")
        (count,) = _WORD.unpack_from(plain)
        headers, at = {}, _WORD.size
        for _ in range(count):
            name, at = _string(plain, at)
            value, at = _string(plain, at)
            headers[name] = value.split("\0")[0]
        return headers

    def reply(self, stream: int) -> bytes:
        """Returns a SYN_REPLY without headers, which accepts the stream."""
        block = self._deflate.compress(_WORD.pack(0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _control(SYN_REPLY, _WORD.pack(stream) + block)

    def data(self, stream: int, data: bytes, *, fin: bool = False) -> bytes:
        return _HEAD.pack(stream, (FIN if fin else 0) << 24 | len(data)) + data

    def reset(self, stream: int) -> bytes:
        return _control(RST_STREAM, _WORD.pack(stream) + _WORD.pack(CANCEL))

    def pong(self, ping: int) -> bytes:
        return _control(PING, _WORD.pack(ping))


def _control(kind: int, body: bytes) -> bytes:
    return _HEAD.pack(0x80000000 | VERSION << 16 | kind, len(body)) + body


def _string(data: bytes, at: int) -> tuple[str, int]:
    (length,) = _WORD.unpack_from(data, at)
    start = at + _WORD.size
    if start + length > len(data):
        raise struct.error("a header is cut short")
    return data[start : start + length].decode("latin-1"), start + length


# SPDY/3's dictionary of words that are frequent in HTTP headers: in the first part each word has its length before it, the second part is one text.
_SIZED = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow authorization "
    "cache-control connection content-base content-encoding content-language content-length content-location content-md5 content-range "
    "content-type date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified "
    "location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding "
    "upgrade user-agent vary via warning www-authenticate method get status"
).split() + ["200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin"]
_RUN = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found"
    "500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,public"
    "privatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(_WORD.pack(len(word)) + word.encode() for word in _SIZED) + _RUN.encode()
DICTIONARY_ADLER32 = 0xE3C6A7C2  # a test compares it, so that a wrong byte above is found
