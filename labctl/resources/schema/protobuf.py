"""Objects that clients send as Protocol Buffers: kubectl's typed commands (create configmap, drain, cordon, ...) send nothing else.

Who calls it: the api room, for bodies of type `application/vnd.kubernetes.protobuf`; from there on the object is JSON like any other. Answers stay JSON:
clients read what the answer says it is. The field numbers are in protobuf.json, derived from kubectl itself by tools/derive_protobuf.py.
The envelope is apimachinery's runtime.Unknown behind four magic bytes (k8s.io/apimachinery/pkg/runtime/serializer/protobuf);
the wire format is protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from labctl.clock import rfc3339, rfc3339_micro
from labctl.errors import ApiError

MAGIC = b"k8s\x00"
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
DEEPEST = 64  # messages within messages: more is an attack

_Messages = dict[str, dict[str, tuple[str, str, str, bool]]]


@cache
def _messages() -> _Messages:
    return msgspec.json.decode((Path(__file__).parent / "protobuf.json").read_bytes(), type=_Messages)


def decode(body: bytes) -> dict[str, Any]:
    """The object, with its apiVersion and kind inside. ApiError 400 for what is no object, or of a kind that is not known here."""
    try:
        if not body.startswith(MAGIC):
            raise ValueError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
        unknown = dict(_fields(memoryview(body)[len(MAGIC) :]))
        type_ = {number: bytes(value).decode() for number, value in _fields(memoryview(unknown.get(1, b"")))}
        api_version, kind = type_.get(1, ""), type_.get(2, "")
        group, _, version = api_version.rpartition("/")
        name = _message_name(group, version, kind)
        return {"apiVersion": api_version, "kind": kind, **_message(name, memoryview(unknown.get(2, b"")), 0)}
    except (ValueError, IndexError, struct.error, UnicodeDecodeError, TypeError) as error:
        raise ApiError(400, "BadRequest", f"couldn't decode the protobuf body: {error}") from None


def _message_name(group: str, version: str, kind: str) -> str:
    for package in (group or "core", "meta"):
        if (name := f"{package}/{version}.{kind}") in _messages():
            return name
    raise ValueError(f'no kind "{kind}" is registered for version "{group}/{version}"')


def _message(name: str, data: memoryview, depth: int) -> Any:
    if depth > DEEPEST:
        raise ValueError("messages are nested too deep")
    special = _SPECIAL.get(name)
    if special:
        return special(dict(_fields(data)))
    known, made = _messages()[name], {}
    for number, value in _fields(data):
        field = known.get(str(number))
        if field is not None:
            _put(made, field, value, depth)
    return made


def _put(made: dict[str, Any], field: tuple[str, str, str, bool], value: Any, depth: int) -> None:
    """Set one field as Go's JSON would show it: zeros are left out unless a pointer says that they were meant."""
    name, kind, detail, keep = field
    if name == "-":
        return
    if kind.startswith("[]"):
        made.setdefault(name, []).append(_value(kind[2:], detail, value, depth))
        return
    if kind == "map":
        entry = dict(_fields(value))
        inner = detail if detail in ("string", "bytes", "int", "bool") else "message"
        made.setdefault(name, {})[bytes(entry.get(1, b"")).decode()] = _value(inner, detail, entry.get(2, b""), depth)
        return
    decoded = _value(kind, detail, value, depth)
    if not name:
        made.update(decoded)
    elif decoded is not None and (keep or decoded):
        made[name] = decoded


def _value(kind: str, detail: str, value: Any, depth: int) -> Any:
    if kind == "message":
        return _message(detail, memoryview(value), depth + 1)
    if kind == "string":
        return bytes(value).decode()
    if kind == "bytes":
        return base64.b64encode(value).decode()
    if kind == "bool":
        return bool(value)
    return _signed(value)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """(number, value): integers as they are on the wire, everything with a length as a view."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        value: Any
        if wire == VARINT:
            value, at = _varint(data, at)
        elif wire == BYTES:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("unexpected EOF")
            value, at = data[at : at + length], at + length
        elif wire == FIXED64:
            value, at = struct.unpack_from("<Q", data, at)[0], at + 8
        elif wire == FIXED32:
            value, at = struct.unpack_from("<I", data, at)[0], at + 4
        else:
            raise ValueError(f"illegal wire type {wire}")
        yield number, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("integer overflow")


def _time(fields: dict[int, Any]) -> str | None:
    return rfc3339(_signed(fields.get(1, 0))) if fields else None


def _micro_time(fields: dict[int, Any]) -> str | None:
    return rfc3339_micro(_signed(fields.get(1, 0)) + fields.get(2, 0) / 1e9) if fields else None


def _int_or_string(fields: dict[int, Any]) -> int | str:
    return bytes(fields.get(3, b"")).decode() if fields.get(1) else _signed(fields.get(2, 0))


_SPECIAL = {
    "meta/v1.Time": _time,
    "meta/v1.MicroTime": _micro_time,
    "resource.Quantity": lambda fields: bytes(fields.get(1, b"")).decode() or "0",
    "intstr.IntOrString": _int_or_string,
    "meta/v1.FieldsV1": lambda fields: msgspec.json.decode(bytes(fields.get(1, b"{}"))),
    "runtime.RawExtension": lambda fields: msgspec.json.decode(bytes(fields.get(1, b"{}"))),
}
