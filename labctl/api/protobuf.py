"""This module decodes Kubernetes' protobuf bodies into plain objects. Nothing here encodes: answers are JSON, which every client also accepts.

`kubectl create namespace|configmap|secret|service`, `kubectl drain` and controllers built on controller-runtime send built-in kinds as protobuf,
whatever the server offers. A body is `k8s\\0` and a runtime.Unknown, which holds apiVersion and kind, and then the message itself.

Google's `protobuf` is not used: importing it takes as long as half of the master's start may (250 ms beside 45 ms for jsonpatch, on a busy machine), a pool of
all messages 24 ms and some 5 MB more; it parses a Service in 1 us instead of a hundred, but walking the result into JSON's form takes most of that again.

What each field number means is in protobuf.json, which tools/derive_protobuf.py reads out of kubectl: `"6": "podIP|string|omit"`.
A type is string, int, bool, bytes, one of a few with a special form in JSON (time, quantity, ...), or a message. The prefix `[]` makes it a list, `{}` a map.
`omit` is Go's omitempty: an empty value means unset. An empty JSON name is an embedded struct, whose fields belong to the outer object.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from labctl.api import status
from labctl.decoding import from_json
from labctl.resources.encoding import NOT_JSON
from labctl.resources.schema.body import SAME_AS

MAGIC = b"k8s\0"

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 64
_EPOCH = datetime(1970, 1, 1)

Wire = int | bytes
Object = dict[str, Any]


class Field(NamedTuple):
    name: str
    type: str
    many: str  # "", "[]" or "{}"
    omit: bool


class _Malformed(Exception):
    """The bytes are not a valid protobuf message."""


class _Fields(msgspec.Struct):
    roots: dict[str, str]
    messages: dict[str, dict[str, str]]


@cache
def _table() -> tuple[dict[str, str], dict[str, dict[int, Field]]]:
    table = from_json(Path(__file__).with_name("protobuf.json").read_bytes(), _Fields)
    return table.roots, {name: {int(n): _field(text) for n, text in fields.items()} for name, fields in table.messages.items()}


def _field(text: str) -> Field:
    name, type_, *omit = text.split("|")
    many = type_[:2] if type_[:2] in ("[]", "{}") else ""
    return Field(name, type_.removeprefix(many), many, bool(omit))


def decode(body: bytes) -> Object:
    """Decodes a body into the object that JSON would give. Raises 400."""
    if not body.startswith(MAGIC):
        raise status.bad_request("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    try:
        unknown = dict(_wire(body[len(MAGIC) :]))
        meta = {number: _text(value) for number, value in _wire(_raw(unknown.get(1, b"")))}
        api_version, kind = meta.get(1, ""), meta.get(2, "")
        registered = SAME_AS.get((api_version, kind), api_version)
        message = _table()[0].get(f"{registered}/{kind}") or _table()[0].get(f"v1/{kind}" if kind == "DeleteOptions" else "")
        if message is None:
            raise status.bad_request(f'no kind "{kind}" is registered for version "{api_version}" in scheme "labctl"')
        return {"apiVersion": api_version, "kind": kind, **_message(message, _raw(unknown.get(2, b"")), 0)}
    except (_Malformed, UnicodeDecodeError) as error:
        raise status.bad_request(f"the body is not a valid protobuf message: {error}") from error


def _message(name: str, data: bytes, depth: int) -> Object:
    if depth > _MAX_DEPTH:
        raise _Malformed("nested too deeply")
    fields = _table()[1][name]
    found: Object = {}
    for number, value in _wire(data):
        field = fields.get(number)
        if field is None:
            continue  # an unknown field of a newer client
        if field.many == "[]":
            found.setdefault(field.name, []).extend(_elements(field, value, depth))
        elif field.many == "{}":
            found.setdefault(field.name, {}).update([_pair(field, _raw(value), depth)])
        elif not field.name:
            found.update(_message(field.type, _raw(value), depth + 1))
        else:
            plain = _json_value(field.type, value, depth)
            if plain is not None and not (field.omit and not plain):
                found[field.name] = plain
    return found


def _elements(field: Field, value: Wire, depth: int) -> Iterator[Any]:
    """Yields the elements of a list field: one, or several if numbers are packed together."""
    if field.type in ("int", "bool") and isinstance(value, bytes):
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            yield _json_value(field.type, number, depth)
    else:
        yield _json_value(field.type, value, depth)


def _pair(field: Field, entry: bytes, depth: int) -> tuple[str, Any]:
    parts = dict(_wire(entry))
    missing: Wire = 0 if field.type in ("int", "bool") else b""
    return _text(parts.get(1, b"")), _json_value(field.type, parts.get(2, missing), depth)


def _json_value(type_: str, value: Wire, depth: int) -> Any:
    own = _SPECIAL_TYPES.get(type_)
    return own(value) if own else _message(type_, _raw(value), depth + 1)


def _text(value: Wire) -> str:
    return _raw(value).decode()


def _raw(value: Wire) -> bytes:
    if isinstance(value, int):
        raise _Malformed("a number where bytes belong")
    return value


def _int(value: Wire) -> int:
    if isinstance(value, bytes):
        raise _Malformed("bytes where a number belongs")
    return value - (1 << 64) if value >> 63 else value


def _time(value: Wire) -> str | None:
    """Decodes a metav1.Time (seconds since the epoch). An empty one and the year 1 are Go's zero time, which is null in JSON."""
    moment = _moment(value)
    return f"{moment.isoformat(timespec='seconds')}Z" if moment else None


def _micro_time(value: Wire) -> str | None:
    moment = _moment(value)
    return f"{moment.isoformat(timespec='microseconds')}Z" if moment else None


def _moment(value: Wire) -> datetime | None:
    parts = dict(_wire(_raw(value)))
    try:
        moment = _EPOCH + timedelta(seconds=_int(parts.get(1, 0)), microseconds=_int(parts.get(2, 0)) // 1000)
    except OverflowError:
        raise _Malformed("a time that no calendar has") from None
    return moment if parts and moment != datetime.min else None


def _quantity(value: Wire) -> str:
    return _text(dict(_wire(_raw(value))).get(1, b"0"))


def _int_or_string(value: Wire) -> int | str:
    parts = dict(_wire(_raw(value)))
    return _text(parts.get(3, b"")) if parts.get(1) else _int(parts.get(2, 0))


def _texts(value: Wire) -> list[str]:
    """Decodes a list of strings that is the value of a map (authentication's ExtraValue): on the wire it is a message."""
    return [_text(item) for number, item in _wire(_raw(value)) if number == 1]


def _json(value: Wire) -> Any:
    """Decodes a RawExtension or FieldsV1, which holds JSON."""
    raw = _raw(dict(_wire(_raw(value))).get(1, b""))
    try:
        return msgspec.json.decode(raw) if raw else None
    except NOT_JSON as error:
        raise _Malformed(str(error)) from error


_SPECIAL_TYPES: dict[str, Callable[[Wire], Any]] = {
    "string": _text,
    "int": _int,
    "bool": lambda value: bool(_int(value)),
    "bytes": lambda value: base64.b64encode(_raw(value)).decode(),
    "time": _time,
    "microtime": _micro_time,
    "quantity": _quantity,
    "int-or-string": _int_or_string,
    "raw": _json,
    "[]string": _texts,
}


def _wire(data: bytes) -> Iterator[tuple[int, Wire]]:
    """Yields (field number, value) in the order of the bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value: Wire
            value, at = _varint(data, at)
        elif kind in (_BYTES, _FIXED64, _FIXED32):
            length = {_FIXED64: 8, _FIXED32: 4}.get(kind, 0)
            if kind == _BYTES:
                length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
            if at > len(data):
                raise _Malformed("a field is cut short")
        else:
            raise _Malformed(f"wire type {kind}")
        yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number & (1 << 64) - 1, at
        shift += 7
    raise _Malformed("a number is cut short")
