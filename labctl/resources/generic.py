"""GenericObject is the view of objects whose kind is known only at run time. Their metadata is typed; other fields are read by path.

Custom kinds use it as their `view`. It holds the object's bytes and decodes them only on demand, so that an unused object costs no more than a ConfigMap.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from labctl.decoding import ready
from labctl.resources.kind import Meta, Object, Viewed

_MISSING = object()


class _Head(msgspec.Struct, frozen=True, rename="camel", gc=False):
    metadata: Meta = Meta()
    kind: str = ""
    api_version: str = ""


_decode_head = msgspec.json.Decoder(ready(_Head)).decode
_decode = msgspec.json.Decoder(dict).decode


class GenericObject(Viewed, frozen=True, rename="camel", gc=False):
    """The view of an object. `kind` and `api_version` are those of the stored object."""

    kind: str = ""
    api_version: str = ""
    raw: bytes = b"{}"

    @classmethod
    def decoder(cls) -> Callable[[bytes], GenericObject]:
        return _view

    @property
    def whole(self) -> Object:
        """Returns the whole object. Callers share it, so it must not be changed."""
        return _whole(self.raw, self.metadata.resource_version)

    def at(self, path: str, missing: Any = None) -> Any:
        """Returns the value at a dotted path such as `spec.replicas`; `missing` if there is none."""
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
    """Decodes the whole object. The result is cached, because several columns of one row read the same object."""
    decoded: Object = _decode(raw)
    if resource_version:
        decoded["metadata"]["resourceVersion"] = resource_version
    return decoded
