"""DNS messages as bytes (RFC 1035, with EDNS of RFC 6891): it decodes queries and encodes answers. It knows no names and does no I/O.

The server gives everything that comes from the network to `query`, so everything is bounded: a name has 255 bytes, a compression pointer leads backwards only,
and a query may carry few records beside its question. The encoder writes names uncompressed, except that the question's name is pointed to.
Names are bytes in lower case with dots between labels and none at the end; a dot inside a label is escaped, so that it equals no name of ours.
"""

from __future__ import annotations

import struct
from typing import List, NamedTuple, Optional, Tuple

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 255
IN = 1
NO_ERROR, FORMAT_ERROR, SERVER_FAILURE, NO_SUCH_NAME, NOT_IMPLEMENTED, REFUSED, BAD_VERSION = 0, 1, 2, 3, 4, 5, 16
PLAIN_BYTES = 512  # of an answer over UDP to a client without EDNS
EDNS_BYTES = 1232  # at most, whatever a client offers: fits every link without fragments
TCP_BYTES = 65_535
NAME_BYTES_MAX = 255
RECORDS_MAX = 8  # that a query may carry beside its question
ANSWERS_MAX = 64  # records that are read of another server's answer
_POINTERS_MAX = 32
_HEADER = struct.Struct(">HHHHHH")
_RECORD = struct.Struct(">HHIH")
_TO_QUESTION = b"\xc0\x0c"
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080


class Malformed(ValueError):
    """These bytes are no DNS message, or one that no well-meaning client sends."""


class Record(NamedTuple):
    """One record; `data` is what the wire carries after its length."""

    name: bytes
    type: int
    ttl_s: int
    data: bytes


class Query(NamedTuple):
    id: int
    opcode: int
    recursion: bool  # whether the client asks for it
    question: bytes  # as it was sent, with its upper and lower case
    name: bytes
    type: int
    class_: int
    edns_version: int  # -1: the client does not speak EDNS
    answer_bytes: int  # the longest answer over UDP

    @property
    def edns(self) -> bool:
        return self.edns_version >= 0


def query(data: bytes) -> Optional[Query]:
    """Decode a query. Return None for a message that must not be answered: an answer, or one that is too short. Raises Malformed for any other non-query."""
    if len(data) < _HEADER.size:
        return None
    id_, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _RESPONSE:
        return None
    if questions != 1 or answers + authorities + additional > RECORDS_MAX:
        raise Malformed("a query has one question and few records")
    name, at = _plain_name(data, _HEADER.size)
    if at + 4 > len(data):
        raise Malformed("the question ends early")
    type_, class_ = struct.unpack_from(">HH", data, at)
    version, size = _edns(data, at + 4, answers + authorities + additional)
    return Query(id_, flags >> 11 & 15, bool(flags & _RECURSION_DESIRED), data[12 : at + 4], name, type_, class_, version, size)


def _edns(data: bytes, at: int, records: int) -> Tuple[int, int]:
    """Return EDNS' version (-1 without EDNS) and the largest answer over UDP in bytes."""
    found = (-1, PLAIN_BYTES)
    for _ in range(records):
        start = at
        at = _skip_name(data, at)
        if at + _RECORD.size > len(data):
            raise Malformed("a record ends early")
        type_, class_, ttl, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size + length
        if at > len(data):
            raise Malformed("a record ends early")
        if type_ == OPT:
            if found[0] >= 0 or data[start]:
                raise Malformed("EDNS twice, or with a name")
            found = (ttl >> 16 & 255, max(PLAIN_BYTES, min(class_, EDNS_BYTES)))
    return found


def answer(asked: Query, code: int, answers: List[Record], authority: List[Record], additional: List[Record], most: int) -> bytes:
    """Encode an authoritative answer. If it is longer than `most` bytes, it is sent without records and marked as truncated, so the client asks over TCP."""
    body = b"".join(_record(asked, record) for record in answers)
    body += b"".join(_record(asked, record) for record in authority)
    extra = b"".join(_record(asked, record) for record in additional)
    edns = _opt(code) if asked.edns else b""
    size = _HEADER.size + len(asked.question) + len(edns)
    flags = _AUTHORITATIVE
    counts = [len(answers), len(authority), len(additional)]
    if size + len(body) + len(extra) > most:
        extra, counts[2] = b"", 0  # a help, not a part of the answer
    if size + len(body) > most:
        body, counts, flags = b"", [0, 0, 0], flags | _TRUNCATED
    return _head(asked, flags, code, counts[0], counts[1], counts[2] + bool(edns)) + body + extra + edns


def failure(asked: Query, code: int) -> bytes:
    """Encode an answer without records."""
    edns = _opt(code) if asked.edns else b""
    return _head(asked, 0, code, 0, 0, int(bool(edns))) + edns


def truncated(asked: Query) -> bytes:
    return _head(asked, _TRUNCATED, NO_ERROR, 0, 0, int(asked.edns)) + (_opt(NO_ERROR) if asked.edns else b"")


def malformed(data: bytes) -> bytes:
    """Encode the answer to a message that `query` refused. Only the message's number is used."""
    return _HEADER.pack(int.from_bytes(data[:2], "big"), _RESPONSE | FORMAT_ERROR, 0, 0, 0, 0)


def _head(asked: Query, flags: int, code: int, answers: int, authority: int, additional: int) -> bytes:
    flags |= _RESPONSE | _RECURSION_AVAILABLE | asked.opcode << 11 | (_RECURSION_DESIRED if asked.recursion else 0) | code & 15
    return _HEADER.pack(asked.id, flags, 1, answers, authority, additional) + asked.question


def _opt(code: int) -> bytes:
    return b"\0" + _RECORD.pack(OPT, EDNS_BYTES, code >> 4 << 24, 0)


def _record(asked: Query, record: Record) -> bytes:
    owner = _TO_QUESTION if record.name == asked.name else name(record.name)
    return owner + _RECORD.pack(record.type, IN, record.ttl_s, len(record.data)) + record.data


# -- names


def name(text: bytes) -> bytes:
    """Encode a name. Raises Malformed if it is too long."""
    wire = b""
    for label in text.split(b".") if text else ():
        if not 0 < len(label) < 64:
            raise Malformed(f"a label of {len(label)} bytes")
        wire += bytes([len(label)]) + label
    if len(wire) >= NAME_BYTES_MAX:
        raise Malformed(f"a name of {len(wire)} bytes")
    return wire + b"\0"


def _plain_name(data: bytes, at: int) -> Tuple[bytes, int]:
    """Decode a question's name; return it and where it ends. It is the first name of the message, so no pointer is allowed."""
    labels: List[bytes] = []
    start = at
    while True:
        if at >= len(data) or at - start >= NAME_BYTES_MAX:
            raise Malformed("a name ends early or never")
        length = data[at]
        if length == 0:
            return b".".join(labels).lower(), at + 1
        if length > 63 or at + 1 + length > len(data):
            raise Malformed("a label that is none")
        labels.append(_escaped(data[at + 1 : at + 1 + length]))
        at += 1 + length


def _escaped(label: bytes) -> bytes:
    return label.replace(b"\\", b"\\\\").replace(b".", b"\\.") if b"." in label or b"\\" in label else label


def _skip_name(data: bytes, at: int) -> int:
    start = at
    while at < len(data) and at - start < NAME_BYTES_MAX:
        length = data[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:
            return at + 2
        if length > 63:
            break
        at += 1 + length
    raise Malformed("a name ends early or never")


def _whole_name(data: bytes, at: int) -> bytes:
    """Decode a name that may be compressed. Each pointer must lead backwards, so that none leads in a circle."""
    labels: List[bytes] = []
    limit, size = at, 0
    for _ in range(_POINTERS_MAX):
        while at < len(data) and 0 < data[at] < 64:
            label = data[at + 1 : at + 1 + data[at]]
            size += len(label) + 1
            if len(label) < data[at] or size >= NAME_BYTES_MAX:
                raise Malformed("a name ends early or never")
            labels.append(_escaped(label))
            at += 1 + len(label)
        if at < len(data) and data[at] == 0:
            return b".".join(labels).lower()
        if at + 2 > len(data) or data[at] < 0xC0:
            raise Malformed("a label that is none")
        at = (data[at] & 0x3F) << 8 | data[at + 1]
        if at >= limit:
            raise Malformed("a pointer that does not lead backwards")
        limit = at
    raise Malformed("too many pointers")


# -- what other servers answer


def request(id_: int, target: bytes, type_: int) -> bytes:
    """Encode a query of our own."""
    return _HEADER.pack(id_, _RECURSION_DESIRED, 1, 0, 0, 1) + name(target) + struct.pack(">HH", type_, IN) + _opt(0)


def belongs(data: bytes, id_: int, question: bytes) -> bool:
    """Tell whether these bytes answer that query: they are an answer with its number and its question."""
    if len(data) < _HEADER.size + len(question):
        return False
    number, flags, questions = struct.unpack_from(">HHH", data)
    same = data[12 : 12 + len(question)].lower() == question.lower()
    return number == id_ and bool(flags & _RESPONSE) and questions == 1 and same


def records(data: bytes) -> Tuple[int, List[Record]]:
    """Return the code, and the addresses and CNAMEs, of another server's answer. Raises Malformed."""
    if len(data) < _HEADER.size:
        raise Malformed("it ends early")
    _, flags, questions, answers, _, _ = _HEADER.unpack_from(data)
    at = _HEADER.size
    if questions != 1 or answers > ANSWERS_MAX:
        raise Malformed("an answer to one question has a bounded number of records")
    at = _skip_name(data, at) + 4
    found = []
    for _ in range(answers):
        owner = _whole_name(data, at)
        at = _skip_name(data, at)
        if at + _RECORD.size > len(data):
            raise Malformed("a record ends early")
        type_, class_, ttl_s, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if at + length > len(data):
            raise Malformed("a record ends early")
        if class_ == IN and (type_, length) in ((A, 4), (AAAA, 16)):
            found.append(Record(owner, type_, ttl_s, data[at : at + length]))
        elif class_ == IN and type_ == CNAME:
            found.append(Record(owner, type_, ttl_s, name(_whole_name(data, at))))
        at += length
    return flags & 15, found
