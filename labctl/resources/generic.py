"""A view of objects whose kind is known only at run time: their metadata is typed, and all else is read by path when somebody asks.

Custom kinds use `GenericObject` as their `view`. It holds the object's own bytes, so that an object that nobody looks into costs no more than a ConfigMap.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from labctl.resources.kind import Meta, Object, Viewed

_MISSING = object()


class _Head(msgspec.Struct, frozen=True, rename="camel", gc=False):
    metadata: Meta = Meta()
    kind: str = ""
    api_version: str = ""


_decode_head = msgspec.json.Decoder(_Head).decode
_decode = msgspec.json.Decoder(dict).decode


class GenericObject(Viewed, frozen=True, rename="camel", gc=False):
    """`kind` and `api_version` are what the stored object says of itself."""

    kind: str = ""
    api_version: str = ""
    raw: bytes = b"{}"

    @classmethod
    def decoder(cls) -> Callable[[bytes], GenericObject]:
        return _view

    @property
    def whole(self) -> Object:
        """All of the object. It is shared between callers, so nobody may change it."""
        return _whole(self.raw, self.metadata.resource_version)

    def at(self, path: str, missing: Any = None) -> Any:
        """The value at a dotted path such as `spec.replicas`; `missing` if there is none."""
        value: Any = self.whole
        for name in path.split("."):
            value = value.get(name, _MISSING) if isinstance(value, dict) else _MISSING
            if value is _MISSING:
                return missing
        return value


def _view(value: bytes) -> GenericObject:
    head = _decode_head(value)
    return GenericObject(head.metadata, head.kind, head.api_version, value)


@lru_cache(maxsize=64)
def _whole(raw: bytes, resource_version: str) -> Object:
    """Several columns of one row read the same object one after another."""
    decoded: Object = _decode(raw)
    if resource_version:
        decoded["metadata"]["resourceVersion"] = resource_version
    return decoded
