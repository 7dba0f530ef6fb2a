"""One question of the gRPC health protocol (grpc.health.v1.Health/Check): just enough of HTTP/2 (RFC 9113) and HPACK (RFC 7541) for a probe.

Who calls it: probes.py. A connection is opened for each question, as the kubelet does it, without TLS. What a server sends is bounded in size and in time.
"""

from __future__ import annotations

import asyncio
import os
from typing import Dict, Iterator, Optional, Tuple
from urllib.parse import unquote

from . import huffman
from .deadlines import connect, wait_for

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 6, 7, 9
_ACK = _END_STREAM = 1
_END_HEADERS, _PADDED, _PRIORITY = 4, 8, 32
_NO_TABLE = b"\x00\x01\x00\x00\x00\x00" + b"\x00\x02\x00\x00\x00\x00"  # the server keeps no table of headers, and pushes nothing
_STREAM = 1
_ANSWER_MOST_BYTES = 64 << 10
_UNKNOWN, _UNIMPLEMENTED, _DEADLINE_EXCEEDED = 2, 12, 4
_STATUS, _MESSAGE = "grpc-status", "grpc-message"
SERVING = 1
STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
CODES = (
    *(
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
    ),
    *("FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated"),
)
_CODES_SAID = [str(number) for number in range(len(CODES))]


class BadAnswer(Exception):
    """What came is not HTTP/2, or no answer to the question."""


async def check(host: str, port: int, service: str, timeout_s: float) -> Tuple[bool, str]:
    """Tell whether the service says that it serves; if not, why, in the kubelet's words."""
    address, within = f"{host}:{port}", f"{timeout_s:g}s"
    end = asyncio.get_running_loop().time() + timeout_s
    try:
        reader, writer = await connect(host, port, timeout_s)
    except asyncio.TimeoutError:
        return False, f'timeout: failed to connect service "{address}" within {within}: context deadline exceeded'
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        return False, f'error: failed to connect service at "{address}": dial tcp {address}: connect: {why}'
    try:
        left_s = max(0.0, end - asyncio.get_running_loop().time())
        status, said = await wait_for(_ask(reader, writer, address, service), left_s)
    except asyncio.TimeoutError:
        return False, f"timeout: health rpc did not complete within {within}"
    except (OSError, BadAnswer, asyncio.IncompleteReadError) as error:
        return False, f"error: health rpc probe failed: {error}"
    finally:
        writer.close()
    return _verdict(status, _code(said.get(_STATUS, "0")), unquote(said.get(_MESSAGE, "")), within)


def _code(said: str) -> int:
    return int(said) if said in _CODES_SAID else _UNKNOWN


def _verdict(status: Optional[int], code: int, message: str, within: str) -> Tuple[bool, str]:
    if code == _UNIMPLEMENTED:
        return False, f"error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
    if code == _DEADLINE_EXCEEDED:
        return False, f"timeout: health rpc did not complete within {within}"
    if code or status is None:
        return False, f"error: health rpc probe failed: rpc error: code = {CODES[code]} desc = {message}"
    if status == SERVING:
        return True, ""
    return False, f'service unhealthy (responded with "{STATUSES[status] if status < len(STATUSES) else status}")'


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, service: str
) -> Tuple[Optional[int], Dict[str, str]]:
    """Return the status in the answer's message (None without one), and what the headers say of the call itself: its code, and why it failed."""
    message = _text(1, service.encode()) if service else b""
    writer.write(_PREFACE + _frame(_SETTINGS, 0, 0, _NO_TABLE) + _frame(_HEADERS, _END_HEADERS, _STREAM, _request_headers(address)))
    writer.write(_frame(_DATA, _END_STREAM, _STREAM, b"\x00" + len(message).to_bytes(4, "big") + message))
    body, headers, read = b"", b"", 0
    said: Dict[str, str] = {}
    while True:
        kind, flags, stream, payload = await _read_frame(reader)
        read += len(payload) + 9
        if read > _ANSWER_MOST_BYTES:
            raise BadAnswer("the answer is too long")
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _GOAWAY:
            raise BadAnswer("the server closes the connection")
        elif stream == _STREAM and kind == _RST_STREAM:
            raise BadAnswer("the server ended the call")
        elif stream == _STREAM and kind in (_HEADERS, _CONTINUATION):
            headers += _unpadded(kind, flags, payload)
            if flags & _END_HEADERS:
                said.update((name, value) for name, value in _literals(headers) if name in (_STATUS, _MESSAGE))
                headers = b""
        elif stream == _STREAM and kind == _DATA:
            body += _unpadded(kind, flags, payload)
        if stream == _STREAM and kind in (_HEADERS, _DATA) and flags & _END_STREAM:
            return _status_in(body), said


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


async def _read_frame(reader: asyncio.StreamReader) -> Tuple[int, int, int, bytes]:
    head = await reader.readexactly(9)
    length = int.from_bytes(head[:3], "big")
    if length > _ANSWER_MOST_BYTES:
        raise BadAnswer("the answer is no HTTP/2")
    return head[3], head[4], int.from_bytes(head[5:9], "big") & 0x7FFFFFFF, await reader.readexactly(length)


def _unpadded(kind: int, flags: int, payload: bytes) -> bytes:
    if kind == _CONTINUATION:
        return payload
    end, begin = len(payload), 0
    if flags & _PADDED:
        begin, end = 1, end - payload[0] if payload else 0
    if kind == _HEADERS and flags & _PRIORITY:
        begin += 5
    return payload[begin:end]


def _request_headers(address: str) -> bytes:
    """Encode every header literally, without a table and without Huffman's code. The first two are in HPACK's static table."""
    literal = {":path": "/grpc.health.v1.Health/Check", ":authority": address}
    literal.update({"content-type": "application/grpc", "te": "trailers", "user-agent": "kube-probe/1.37"})
    return b"\x83\x86" + b"".join(b"\x00" + _string(name) + _string(value) for name, value in literal.items())


def _string(text: str) -> bytes:
    raw = text.encode()
    assert len(raw) < 127, "longer ones need another form"
    return bytes((len(raw),)) + raw


def _literals(block: bytes) -> Iterator[Tuple[str, str]]:
    """Yield the headers that are spelled out. Those of HPACK's table are left out, because grpc-status is not among them. Raises BadAnswer."""
    at = 0
    try:
        while at < len(block):
            first = block[at]
            if first & 0x80:  # one of the table
                _, at = _number(block, at, 7)
            elif first & 0xE0 == 0x20:  # the table's size
                _, at = _number(block, at, 5)
            else:
                index, at = _number(block, at, 6 if first & 0x40 else 4)
                name, at = _spelled(block, at) if index == 0 else ("", at)
                value, at = _spelled(block, at)
                yield name, value
    except IndexError:
        raise BadAnswer("headers that break off") from None


def _number(block: bytes, at: int, bits: int) -> Tuple[int, int]:
    """Decode HPACK's integer with a prefix of so many bits. Return it and where the next item begins."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while True:
        value += (block[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not block[at - 1] & 0x80:
            return value, at
        if shift > 28:
            raise BadAnswer("a number that is too large")


def _spelled(block: bytes, at: int) -> Tuple[str, int]:
    """Decode a text, in Huffman's code or plain. Return it and where the next item begins."""
    length, end = _number(block, at, 7)
    if end + length > len(block):
        raise BadAnswer("headers that break off")
    raw = block[end : end + length]
    return huffman.decoded(raw) if block[at] & 0x80 else raw.decode("latin-1"), end + length


# -- protocol buffers


def _text(field: int, raw: bytes) -> bytes:
    return bytes((field << 3 | 2,)) + _varint(len(raw)) + raw


def _varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes((number & 0x7F | 0x80,))
        number >>= 7
    return out + bytes((number,))


def _status_in(body: bytes) -> Optional[int]:
    """Return the field `status` of a HealthCheckResponse, or None if there is no message. Unknown fields can't be in it."""
    if len(body) < 5:
        return None
    message = body[5 : 5 + int.from_bytes(body[1:5], "big")]
    fields: Dict[int, int] = dict(zip(message[0::2], message[1::2]))  # noqa: B905 - Python 3.9; one byte each: the only field is a small number
    return fields.get(1 << 3, 0)
