"""Makes typed values of JSON and of plain values, from any thread.

msgspec looks through a type when it is used for the first time, and keeps what it found at the type. Two threads that do so at once end the whole process
(SIGSEGV; seen with msgspec 0.22): one uses what the other has made only in part. So every type is looked through here first, one after the other.
"""

from __future__ import annotations

from threading import RLock
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
_looking = RLock()  # a type's annotations may import modules, which make decoders of their own
_ready: set[Any] = set()


def ready(type_: type[T]) -> type[T]:
    """Return the type, which any thread may use from now on. Whoever makes a decoder asks for its type here."""
    if type_ not in _ready:
        with _looking:
            msgspec.json.Decoder(type_)
            _ready.add(type_)
    return type_


def from_json(raw: bytes | str, type_: type[T]) -> T:
    """Return what the JSON says as this type. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(raw, type=ready(type_))


def from_values(value: Any, type_: type[T]) -> T:
    """Return a value made of dicts, lists and the like as this type. Raises msgspec.ValidationError."""
    return msgspec.convert(value, ready(type_))
