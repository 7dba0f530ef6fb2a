"""This module converts objects between the version that is stored and the version that a client uses.

Objects of a kind without a `conversion` are returned as they are stored, at no cost. Otherwise stored bytes are converted if they differ (they were stored
in another version, or the kind's schema has changed since). A read converts its result; a write converts before and after its change:

    stored bytes ─► the version of the request ─► change, defaults, validation ─► the stored version ─► commit
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from labctl.resources import encoding
from labctl.resources.kind import Kind, Object
from labctl.store.interface import Entry


class NoneConversion:
    """Implements Kubernetes' conversion strategy `None`: versions differ only in the apiVersion."""

    def needed(self, kind: Kind, entry: Entry) -> bool:
        head = b'{"kind":"%s","apiVersion":"%s",' % (kind.kind.encode(), kind.api_version.encode())
        return not entry.value.startswith(head)

    async def convert(self, kind: Kind, objects: Sequence[Object]) -> Sequence[Object]:
        return [{**obj, "apiVersion": kind.api_version, "kind": kind.kind} for obj in objects]


async def convert_entries(kind: Kind, entries: Sequence[Entry]) -> Sequence[Entry]:
    """Returns the entries converted to this version of the kind, in the same order."""
    conversion = kind.conversion
    if conversion is None:
        return entries
    other = [place for place, entry in enumerate(entries) if entry.value and conversion.needed(kind, entry)]
    if not other:
        return entries
    converted = await conversion.convert(kind, [encoding.decoded(entries[place]) for place in other])
    result = list(entries)
    for place, obj in zip(other, converted, strict=True):  # a watch may have the same object several times
        result[place] = _entry(kind, entries[place], obj)
    return result


async def convert_entry(kind: Kind, entry: Entry) -> Entry:
    return entry if kind.conversion is None else (await convert_entries(kind, [entry]))[0]


async def to_store(kind: Kind, obj: Object) -> Object:
    """Converts an object from the version of the request to the version that is stored. The object itself stays as it is."""
    stored = kind.stored
    if stored is kind or kind.conversion is None:
        return obj
    return (await kind.conversion.convert(stored, [deepcopy(obj)]))[0]


async def convert_objects(kind: Kind, other: Kind, objects: Sequence[Object]) -> Sequence[Object]:
    """Converts objects of one version to another version of the kind. It may change the objects it is given."""
    conversion = other.conversion or kind.conversion
    return objects if conversion is None else await conversion.convert(other, objects)


async def is_stale(kind: Kind, entry: Entry, obj: Object) -> bool:
    """True if the entry is not what this object would be stored as: it is of another version, or of an older schema. An update then writes it again, even
    without a change: so stored objects are migrated."""
    stored = kind.stored
    if stored.conversion is None or not stored.conversion.needed(stored, entry):
        return False
    return encoding.stored(await to_store(kind, obj)) != entry.value


def _entry(kind: Kind, entry: Entry, obj: Object) -> Entry:
    converted = Entry(entry.key, encoding.stored(obj), entry.revision, entry.created)
    converted.memo = encoding.viewed(converted, kind.view.decoder())
    return converted
