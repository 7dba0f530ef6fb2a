"""This module serves /openapi/v2 and /openapi/v3, for `kubectl explain`, client-side checks and code generators.

`resources.schema.openapi` makes the documents out of pieces that it keeps, in a thread, because the whole API takes a tenth of a second the first time.
They are sent piece by piece, or compressed, without a newline at the end, as a real server does. The URL of a v3 document carries its hash, so a client that
has it never asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import msgspec
from aiohttp import web

from labctl.api import answer, negotiate
from labctl.api.call import Call
from labctl.api.pieces import PIECE_BYTES
from labctl.resources.registry import Registry
from labctl.resources.schema.definitions import Schema
from labctl.resources.schema.foreign import Foreign
from labctl.resources.schema.openapi import Documents
from labctl.resources.schema.pieces import Document, Piece

_V3 = "/openapi/v3"
_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
_CHUNK_BYTES = 32 << 10  # pieces of this size are sent as they are; the others are joined first, because each write has a price


class OpenApi:
    """`others` returns the versions of the groups that other servers serve; in v3 each of these answers for its own part. `foreign` has their parts of v2."""

    def __init__(
        self,
        schema: Schema,
        registry: Registry,
        version: str,
        others: Callable[[], Mapping[str, Sequence[str]]],
        foreign: Callable[[], Foreign],
    ) -> None:
        self._others = others
        self._foreign = foreign
        self._schema = schema
        self._registry = registry
        self._version = version
        self._generation = -1  # the registry's generation when the documents were made
        self._documents: Documents | None = None

    async def serve(self, call: Call) -> web.StreamResponse:
        accept = call.request.headers.get("Accept", "")
        protobuf = call.path == "/openapi/v2" and _PROTOBUF in accept and negotiate.JSON not in accept
        if not protobuf:
            negotiate.accepted(accept, negotiate.DISCOVERY_SHAPES)
        document = await asyncio.to_thread(self._find, self._current(), call.path.rstrip("/"), protobuf, self._foreign())
        if document is None:
            return answer.text(answer.NOT_FOUND, 404)
        if call.path.rstrip("/") == _V3 and (others := self._others()):
            document = _with_others(document, others)
        headers = {"ETag": f'"{document.hash}"', "Vary": "Accept"}
        if call.query.first("hash") == document.hash:
            headers["Expires"] = "Thu, 31 Dec 2099 23:59:59 GMT"
        if call.request.headers.get("If-None-Match", "").strip('"') == document.hash:
            return answer.CompleteResponse(b"", 304, extra=answer.header_lines(headers))
        type_ = _PROTOBUF.replace("@", ".") if protobuf else negotiate.JSON  # with an @ it is no valid media type
        return await _sent(call, document, type_, headers)

    @staticmethod
    def _find(documents: Documents, path: str, protobuf: bool, foreign: Foreign) -> Document | None:
        if path == "/openapi/v2":
            return documents.v2(protobuf=protobuf, others=foreign)
        if path == _V3:
            return documents.index()
        return documents.v3(path.removeprefix(_V3 + "/")) if path.startswith(_V3 + "/") else None

    def _current(self) -> Documents:
        """Returns today's documents. They are made again when kinds came or went; unchanged parts are reused."""
        if self._documents is None or self._generation != self._registry.generation:
            self._generation = self._registry.generation
            self._documents = Documents(self._schema, self._registry.all_served(), self._version, self._documents)
        return self._documents


async def _sent(call: Call, document: Document, content_type: str, headers: Mapping[str, str]) -> web.StreamResponse:
    """Sends a document: compressed if the client accepts it, else piece by piece."""
    extra = answer.header_lines(headers)
    if document.size > call.settings.gzip_above_bytes and "gzip" in call.request.headers.get("Accept-Encoding", ""):
        body = await asyncio.to_thread(document.gzipped)
        return answer.CompleteResponse(body, 200, content_type, extra + answer.GZIP_LINES)
    if document.size <= PIECE_BYTES:
        return answer.CompleteResponse(document.body, 200, content_type, extra)
    return answer.PiecewiseResponse(document.chunks(_CHUNK_BYTES), document.size, extra, content_type)


def _with_others(document: Document, others: Mapping[str, Sequence[str]]) -> Document:
    """Return the index of v3 with the documents of other servers, whose hashes are not known."""
    index = msgspec.json.decode(document.body)
    for group, versions in others.items():
        for version in versions:
            index["paths"][f"apis/{group}/{version}"] = {"serverRelativeURL": f"{_V3}/apis/{group}/{version}"}
    return Document([Piece(msgspec.json.encode(index))])
