"""Lists of whole collections are kept in the form in which they are sent, as long as nothing in them changes.

Programs that poll, and several that start together, ask for the same list again and again. To collect a thousand objects from the store and to join their
bytes takes as long as encrypting the answer. So the second answer is kept, and every later one is the same bytes with another resourceVersion in front,
until an object of the kind changes (`Store.changed_at`). The first is not kept: most lists are asked for once, by a program that then watches.

Only lists without a selector, a limit or a past revision are kept, since those are what is asked for again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from labctl.api.pieces import Pieces, joined
from labctl.resources.encoding import client_bytes
from labctl.resources.kind import Kind
from labctl.resources.resources import Resources
from labctl.resources.service import ListOptions

ALL = (ListOptions(), ListOptions(resource_version="0"))
"""The options of a list of everything at the current revision."""

_LISTS_MAX, _BYTES_MAX = 64, 4 << 20


@dataclass(slots=True)
class _Kept:
    changed_at: int
    objects: Pieces | None  # none as long as the list was asked for only once
    size_bytes: int = 0


class Lists:
    """The lists that are kept: at most 64, and 4 MiB in all. What was not asked for the longest goes first."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._held_bytes = 0

    def objects(self, kind: Kind, namespace: str) -> Pieces:
        """Returns the objects of a collection at the current revision, as `joined` pieces."""
        prefix = kind.prefix(namespace if kind.namespaced else "")
        changed_at = self._resources.store.changed_at(prefix)
        known = self._kept.pop(prefix, None)
        if known is not None and known.changed_at == changed_at and known.objects is not None:
            self._kept[prefix] = known
            return known.objects
        if known is not None:
            self._held_bytes -= known.size_bytes
        entries = self._resources.list(kind, namespace).entries
        objects = joined([entry.client_bytes or client_bytes(entry) for entry in entries])
        again = known is not None and known.changed_at == changed_at
        if again and objects.size <= _BYTES_MAX:
            objects = objects.made()
            self._keep(prefix, changed_at, objects)
        elif not again:
            self._keep(prefix, changed_at, None)
        return objects

    def _keep(self, prefix: str, changed_at: int, objects: Pieces | None) -> None:
        size_bytes = objects.size if objects is not None else 0
        self._kept[prefix] = _Kept(changed_at, objects, size_bytes)
        self._held_bytes += size_bytes
        while len(self._kept) > _LISTS_MAX or self._held_bytes > _BYTES_MAX:
            _prefix, dropped = self._kept.popitem(last=False)
            self._held_bytes -= dropped.size_bytes
