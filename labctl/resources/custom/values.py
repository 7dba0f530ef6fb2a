"""A custom object's values as CEL sees them: times and bytes by their format, numbers as doubles, properties under names that CEL can write."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from labctl.resources.custom.schema import Node, escaped

_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def native(node: Node, value: Any) -> Any:
    """Return the value itself where CEL's value is the same as JSON's."""
    if not node.odd or value is None:
        return value
    if isinstance(value, dict):
        return {_name(node, name): _below(node.properties.get(name) or node.extra, item) for name, item in value.items()}
    if isinstance(value, list):
        return [_below(node.items, item) for item in value]
    if isinstance(value, str):
        return _text(node.format, value)
    return float(value) if node.type == "number" else value


def _name(node: Node, name: str) -> str:
    return escaped(name) if name in node.properties else name


def _below(node: Node | None, value: Any) -> Any:
    return value if node is None else native(node, value)


def _text(format_: str, text: str) -> Any:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp

    try:
        if format_ == "byte":
            return base64.b64decode(text)
        if format_ == "duration":
            duration = Duration()
            duration.FromNanoseconds(_nanoseconds(text))
            return duration
        if format_ in ("date", "date-time"):
            timestamp = Timestamp()
            timestamp.FromJsonString(f"{text}T00:00:00Z" if format_ == "date" else text.upper().replace(" ", "T"))
            return timestamp
    except (ValueError, binascii.Error):
        return text  # the schema lets it be; the rule's evaluation says what is wrong
    return text


def _nanoseconds(text: str) -> int:
    bare = text.lstrip("+-")
    parts = _PART.findall(bare)
    if "".join(number + unit for number, unit in parts) != bare:
        raise ValueError("no duration of Go's")
    total = sum(int(float(number) * _NS[unit]) for number, unit in parts)
    return -total if text.startswith("-") else total
