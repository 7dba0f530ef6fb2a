"""This module gives objects the shape that a client asked for: the object itself, PartialObjectMetadata, or a row of a Table.

Stored objects are JSON already: a list joins their bytes, and an object's metadata is cut out without decoding the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from labctl.api import status
from labctl.api.negotiate import PARTIAL, TABLE, Format
from labctl.api.pieces import Pieces, joined
from labctl.decoding import ready
from labctl.resources.cells import AGE, NAME
from labctl.resources.encoding import client_bytes
from labctl.resources.kind import Kind
from labctl.resources.service import ListResult, WatchEvent
from labctl.store.interface import Entry

_encode = msgspec.json.Encoder().encode
_ROWS_AT_ONCE = 100
_INCLUDE = ("None", "Metadata", "Object")

ViewOf = Callable[[Entry], Any]


class _Cut(msgspec.Struct):
    metadata: msgspec.Raw


_cut = msgspec.json.Decoder(ready(_Cut)).decode


class Shape:
    """Encodes objects of one kind for one request. `include` is the query's includeObject, for Tables only."""

    def __init__(self, kind: Kind, form: Format, include: str, view_of: ViewOf, wall_s: Callable[[], float]) -> None:
        if include and include not in _INCLUDE:
            raise status.bad_request(f'unrecognized includeObject value: "{include}"')
        self.kind = kind
        self.shape = form.shape
        self._version = form.version
        self._columns = kind.columns or (NAME, AGE)
        self._include = include or "Metadata"
        self._view_of = view_of
        self._wall_s = wall_s
        self._headed = False

    def one(self, entry: Entry) -> bytes:
        if not self.shape:
            return client_bytes(entry)
        if self.shape == PARTIAL:
            return self._partial(client_bytes(entry))
        return self._enclosed(self._rows([entry]), {"resourceVersion": str(entry.revision)}, columns=True)

    async def many(self, listed: ListResult) -> Pieces:
        """Returns a list, in pieces. A row takes 20 us, so a long Table lets other tasks run in between; the entries don't change meanwhile."""
        metadata: dict[str, Any] = {"resourceVersion": str(listed.revision)}
        if listed.continue_token:
            metadata["continue"] = listed.continue_token
            if listed.remaining is not None:
                metadata["remainingItemCount"] = listed.remaining
        if self.shape == TABLE:
            rows: list[bytes] = []
            for start in range(0, len(listed.entries), _ROWS_AT_ONCE):
                rows += self._rows(listed.entries[start : start + _ROWS_AT_ONCE])
                await asyncio.sleep(0)
            table = self._enclosed(rows, metadata, columns=True)
            return Pieces(len(table), (table,))
        if self.shape == PARTIAL:
            objects = joined([self._partial(client_bytes(e)) for e in listed.entries])
            return _list("PartialObjectMetadataList", f"meta.k8s.io/{self._version}", metadata, objects)
        return self.plain_list(metadata, joined([e.client_bytes or client_bytes(e) for e in listed.entries]))

    def plain_list(self, metadata: dict[str, Any], objects: Pieces) -> Pieces:
        """Returns a list of whole objects, which are given as `joined` pieces."""
        return _list(f"{self.kind.kind}List", self.kind.api_version, metadata, objects)

    def line(self, event: WatchEvent) -> bytes:
        """Returns a line of a watch. A line without a special shape is made once for all watchers; a Table's first line carries the columns."""
        if not self.shape:
            if not event.line:
                event.line = b'{"type":"%s","object":%s}\n' % (event.type.encode(), client_bytes(event.entry))
            return event.line
        if self.shape == PARTIAL:
            obj = self._partial(client_bytes(event.entry))
        else:
            obj = self._event_table(event)
        return b'{"type":"%s","object":%s}\n' % (event.type.encode(), obj)

    def _event_table(self, event: WatchEvent) -> bytes:
        columns, self._headed = not self._headed, True
        metadata = {"resourceVersion": str(event.entry.revision)}
        if event.type == "BOOKMARK":
            row = b'{"cells":[],"object":%s}' % self._partial(client_bytes(event.entry))
            return self._enclosed([row], metadata, columns)
        return self._enclosed(self._rows([event.entry]), metadata, columns)

    def _rows(self, entries: Iterable[Entry]) -> list[bytes]:
        now = self._wall_s()
        return [self._row(entry, now) for entry in entries]

    def _row(self, entry: Entry, now: float) -> bytes:
        view = self._view_of(entry)
        cells = _encode([column.cell(view, now) for column in self._columns])
        if self._include == "None":
            return b'{"cells":%s,"object":null}' % cells
        return b'{"cells":%s,"object":%s}' % (
            cells,
            client_bytes(entry) if self._include == "Object" else self._partial(client_bytes(entry)),
        )

    def _partial(self, value: bytes) -> bytes:
        """Returns the object as PartialObjectMetadata."""
        head = b'{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/%s","metadata":' % self._version.encode()
        return head + bytes(_cut(value).metadata) + b"}"

    @property
    def content_type(self) -> str:
        """Returns a watch's content type, as a real server says it."""
        return f"application/json;as={self.shape};g=meta.k8s.io;v={self._version}" if self.shape else "application/json"

    def _enclosed(self, rows: list[bytes], metadata: dict[str, Any], columns: bool) -> bytes:
        definitions = _encode([_definition(c) for c in self._columns]) if columns else b"null"
        return b'{"kind":"Table","apiVersion":"meta.k8s.io/%s","metadata":%s,"columnDefinitions":%s,"rows":[%s]}' % (
            self._version.encode(),
            _encode(metadata),
            definitions,
            b",".join(rows),
        )


def _list(kind: str, api_version: str, metadata: dict[str, Any], objects: Pieces) -> Pieces:
    head = b'{"kind":"%s","apiVersion":"%s","metadata":%s,"items":[' % (kind.encode(), api_version.encode(), _encode(metadata))
    return objects.within(head, b"]}")


def _definition(column: Any) -> dict[str, Any]:
    return {
        "name": column.name,
        "type": column.type,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    }
