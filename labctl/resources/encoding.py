"""This module converts objects between the form in the store and the form that clients get.

In the store an object is compact JSON without its resourceVersion: the store assigns the revision when it writes, and keeps it beside the value
(`Entry.revision`). `kind`, `apiVersion` and `metadata` come first, so that `client_bytes` can put the resourceVersion in as the first field of the metadata
without decoding anything: only the kind and its version come before that place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from labctl.resources.kind import Object
from labctl.resources.sharing import share
from labctl.store.interface import Entry

_FIRST = ("name", "generateName", "namespace", "uid")
_METADATA = b'"metadata":{'
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode
NOT_JSON = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""The errors of decoding a client's bytes: they are no JSON, have another type, are nested too deeply, or are no UTF-8."""


def stored(obj: Object) -> bytes:
    """Encodes an object for the store. Its metadata must have a name or a uid."""
    metadata = obj["metadata"]
    ordered = {name: metadata[name] for name in _FIRST if name in metadata}
    ordered.update(metadata)
    ordered.pop("resourceVersion", None)
    whole = {"kind": obj["kind"], "apiVersion": obj["apiVersion"], "metadata": ordered}
    for name, value in obj.items():
        if name not in whole:
            whole[name] = value
    return encode(whole)


def client_bytes(entry: Entry) -> bytes:
    """Returns an object's JSON for clients, with its resourceVersion. It is made once for each entry.

    What a dry run would create has no revision: it is answered without a resourceVersion, as by Kubernetes. A "0" would mean any version to a client."""
    if not entry.client_bytes and not entry.revision:
        entry.client_bytes = entry.value
    elif not entry.client_bytes:
        value = entry.value
        place = value.index(_METADATA) + len(_METADATA)
        entry.client_bytes = b'%b"resourceVersion":"%d",%b' % (value[:place], entry.revision, value[place:])
    return entry.client_bytes


def decoded(entry: Entry) -> Object:
    """Decodes an object into a fresh dict, with its resourceVersion; what a dry run would create has none."""
    obj: Object = decode(entry.value)
    if entry.revision:
        obj["metadata"]["resourceVersion"] = str(entry.revision)
    return obj


def viewed(entry: Entry, decoder: Callable[[bytes], Any]) -> Any:
    """Decodes an entry into its typed view, with its resourceVersion."""
    view = decoder(entry.value)
    msgspec.structs.force_setattr(view.metadata, "resource_version", str(entry.revision))
    share(view)
    return view
