"""ConfigMaps and Secrets share these rules: keys that may become files, a limit of size, and `immutable`."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources import fields, names
from labctl.resources.kind import FieldError, Object

MAX_BYTES = 1 << 20
_IMMUTABLE = "field is immutable when `immutable` is set"


def keys(path: str, data: Object) -> Iterator[FieldError]:
    for key in data:
        yield from names.checked(f"{path}[{key}]", key, names.config_key)


def decoded_size(base64: str) -> int:
    """Returns the number of bytes in a base64 text, without decoding it."""
    text = base64.rstrip("=")
    return len(text) * 3 // 4


def too_long(path: str, size: int) -> Iterator[FieldError]:
    if size > MAX_BYTES:
        yield fields.too_long(path, MAX_BYTES)


def immutable(new: Object, old: Object | None, *parts: str) -> Iterator[FieldError]:
    if old is None or not old.get("immutable"):
        return
    if not new.get("immutable"):
        yield fields.forbidden("immutable", _IMMUTABLE)
    for part in parts:
        if new.get(part, {}) != old.get(part, {}):
            yield fields.forbidden(part, _IMMUTABLE)
