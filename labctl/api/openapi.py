"""OpenAPI documents, for `kubectl explain`, client-side checks and other people's generators. Made from the schema when first asked for, then kept as bytes."""

from __future__ import annotations

import msgspec
from aiohttp import web

from labctl.api import answer, negotiate
from labctl.api.call import Call
from labctl.resources.registry import Registry

_encode = msgspec.json.Encoder().encode


class OpenApi:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._kept: dict[str, bytes] = {}

    async def serve(self, call: Call) -> web.StreamResponse:
        negotiate.accepted(call.request.headers.get("Accept", ""), negotiate.DISCOVERY_SHAPES)
        return answer.text("404 page not found\n", 404)
