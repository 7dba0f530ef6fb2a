"""How an object lies in the store: compact JSON, `kind`, `apiVersion` and `metadata` first, and in it the names before all else.

So the first `"resourceVersion":"` in the bytes is the object's own (nothing before it holds text of a user's choosing but names, which have no quotes),
and a new revision is stamped in without encoding anew.
"""

from __future__ import annotations

import msgspec

from labctl.resources.kind import Object

_FIRST = ("name", "generateName", "namespace", "uid")
_MARK = b'"resourceVersion":"'
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode
NOT_JSON = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""What decoding a client's bytes may raise: they are no JSON, another type's, nested too deeply, or no text."""


class Sealed:
    """An object, encoded but for its revision. The store calls it with the revision it assigned; `value` is what it wrote then."""

    __slots__ = ("_head", "_tail", "value")

    def __init__(self, obj: Object) -> None:
        self._head, _, self._tail = encode(_ordered(obj)).partition(_MARK + b'"')
        self.value = b""

    def __call__(self, revision: int) -> bytes:
        self.value = self._head + _MARK + b'%d"' % revision + self._tail
        return self.value


def _ordered(obj: Object) -> Object:
    metadata = obj["metadata"]
    ordered = {name: metadata[name] for name in _FIRST if name in metadata}
    ordered["resourceVersion"] = ""
    ordered.update((name, value) for name, value in metadata.items() if name not in ordered)
    whole = {"kind": obj["kind"], "apiVersion": obj["apiVersion"], "metadata": ordered}
    whole.update((name, value) for name, value in obj.items() if name not in whole)
    return whole


def restamped(value: bytes, revision: int) -> bytes:
    """The same object with another revision inside."""
    head, mark, rest = value.partition(_MARK)
    return head + mark + b"%d" % revision + rest[rest.index(b'"') :]
