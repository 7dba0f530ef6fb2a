"""This module serves /openapi/v2 and /openapi/v3, for `kubectl explain`, client-side checks and code generators.

`resources.schema.openapi` makes the documents, the first time in a thread, because the whole API takes a tenth of a second.
They are sent without a newline at the end, as a real server does. The URL of a v3 document carries its hash, so a client that has it never asks again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from labctl.api import answer, negotiate, openapi_protobuf
from labctl.api.call import Call
from labctl.resources.registry import Registry
from labctl.resources.schema.definitions import Schema
from labctl.resources.schema.openapi import Document, Documents

_V3 = "/openapi/v3"
_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


class OpenApi:
    """`others` returns the versions of the groups that other servers serve; each of these answers for its own part."""

    def __init__(self, schema: Schema, registry: Registry, version: str, others: Callable[[], Mapping[str, Sequence[str]]]) -> None:
        self._others = others
        self._schema = schema
        self._registry = registry
        self._version = version
        self._generation = -1  # the registry's generation when the documents were made
        self._documents: Documents | None = None
        self._v2_protobuf: Document | None = None

    async def serve(self, call: Call) -> web.StreamResponse:
        accept = call.request.headers.get("Accept", "")
        protobuf = call.path == "/openapi/v2" and _PROTOBUF in accept and negotiate.JSON not in accept
        if not protobuf:
            negotiate.accepted(accept, negotiate.DISCOVERY_SHAPES)
        find = self._protobuf if protobuf else self._find
        document = await asyncio.to_thread(find, self._current(), call.path.rstrip("/"))
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
        return await call.send(document.body, type_, extra=answer.header_lines(headers))

    @staticmethod
    def _find(documents: Documents, path: str) -> Document | None:
        if path == "/openapi/v2":
            return documents.v2()
        if path == _V3:
            return documents.index()
        return documents.v3(path.removeprefix(_V3 + "/")) if path.startswith(_V3 + "/") else None

    def _protobuf(self, documents: Documents, _path: str) -> Document:
        """Returns the v2 document as protobuf. It is made once, like the others."""
        v2 = documents.v2()
        if self._v2_protobuf is None or self._v2_protobuf.hash != v2.hash:
            document = msgspec.json.decode(v2.body)
            if self._registry.in_group("apiextensions.k8s.io", "v1", "customresourcedefinitions") is None:
                _hide_field_validation(document["paths"]["/api/v1/namespaces/{name}"]["patch"])
            self._v2_protobuf = Document(openapi_protobuf.encode(document), v2.hash)
        return self._v2_protobuf

    def _current(self) -> Documents:
        """Returns today's documents. They are made again when kinds came or went; unchanged parts are reused."""
        if self._documents is None or self._generation != self._registry.generation:
            self._generation = self._registry.generation
            self._documents = Documents(self._schema, self._registry.all_served(), self._version, self._documents)
        return self._documents


def _with_others(document: Document, others: Mapping[str, Sequence[str]]) -> Document:
    """Return the index of v3 with the documents of other servers, whose hashes are not known."""
    index = msgspec.json.decode(document.body)
    for group, versions in others.items():
        for version in versions:
            index["paths"][f"apis/{group}/{version}"] = {"serverRelativeURL": f"{_V3}/apis/{group}/{version}"}
    body = msgspec.json.encode(index)
    return Document(body, hashlib.sha512(body).hexdigest().upper())


def _hide_field_validation(operation: dict[str, Any]) -> None:
    """Removes the parameter fieldValidation from a patch operation.

    kubectl looks for this parameter to learn what custom kinds can do, and then lists the custom kinds. Where none are served it would report that
    failure instead of `no matches for kind`.
    """
    operation["parameters"] = [one for one in operation["parameters"] if one["name"] != "fieldValidation"]
