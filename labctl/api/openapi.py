"""/openapi/v2 and /openapi/v3, for `kubectl explain`, client-side checks and other people's generators.

The documents are made by `resources.schema.openapi`, the first time in a thread: the whole API takes a tenth of a second.
A v3 document's address carries its hash, so a client that has it never asks again.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from labctl.api import answer, negotiate
from labctl.api.call import Call
from labctl.resources.registry import Registry
from labctl.resources.schema.definitions import Schema
from labctl.resources.schema.openapi import Document, Documents

_V3 = "/openapi/v3"
_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
# kubectl asks for this one where v3 does not know a kind, only to find that v2 does not either; then it says `no matches for kind`.
# It is answered under the name that is a valid media type.
_EMPTY_V2 = b"\x0a\x032.0"  # field 1, `swagger: "2.0"`, and nothing else


class OpenApi:
    def __init__(self, schema: Schema, registry: Registry, version: str) -> None:
        self._schema = schema
        self._registry = registry
        self._version = version
        self._generation = -1  # of the registry, when the documents were made
        self._documents: Documents | None = None

    async def serve(self, call: Call) -> web.StreamResponse:
        accept = call.request.headers.get("Accept", "")
        if call.path == "/openapi/v2" and _PROTOBUF in accept and negotiate.JSON not in accept:
            return answer.Whole(_EMPTY_V2, content_type=_PROTOBUF.replace("@", "."))
        negotiate.accepted(accept, negotiate.DISCOVERY_SHAPES)
        document = await asyncio.to_thread(self._find, self._current(), call.path.rstrip("/"))
        if document is None:
            return answer.text(answer.NOT_FOUND, 404)
        headers = {"ETag": f'"{document.hash}"', "Vary": "Accept"}
        if call.query.first("hash") == document.hash:
            headers["Expires"] = "Thu, 31 Dec 2099 23:59:59 GMT"
        if call.request.headers.get("If-None-Match", "").strip('"') == document.hash:
            return answer.Whole(b"", 304, extra=answer.header_lines(headers))
        return await call.answer(document.body, extra=answer.header_lines(headers))

    @staticmethod
    def _find(documents: Documents, path: str) -> Document | None:
        if path == "/openapi/v2":
            return documents.v2()
        if path == _V3:
            return documents.index()
        return documents.v3(path.removeprefix(_V3 + "/")) if path.startswith(_V3 + "/") else None

    def _current(self) -> Documents:
        """Made anew when kinds came or went; what did not change is taken over."""
        if self._documents is None or self._generation != self._registry.generation:
            self._generation = self._registry.generation
            self._documents = Documents(self._schema, self._registry.all_served(), self._version, self._documents)
        return self._documents
