"""This module serves the paths that name no object: discovery, OpenAPI, version, health, and labctl's own below /labctl/v1."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

import labctl
from labctl.api import answer, discovery, health, negotiate, status
from labctl.api.aggregation.aggregation import Aggregation
from labctl.api.build import build
from labctl.api.call import Call
from labctl.api.extensions import ROOT, Extensions
from labctl.api.metrics import Metrics
from labctl.api.openapi import OpenApi
from labctl.api.query import Query
from labctl.api.route import Target
from labctl.api.tokens import ServiceAccountTokens
from labctl.resources.kinds.apiregistration_v1.apiservice import APIService
from labctl.resources.resources import Resources
from labctl.resources.schema.foreign import NOTHING, Foreign

_encode = msgspec.json.Encoder().encode


class Paths:
    """Serves paths that name no object. `checks` returns the checks of the health endpoints."""

    def __init__(
        self,
        resources: Resources,
        extensions: Extensions,
        checks: health.Checks,
        metrics: Metrics,
        tokens: ServiceAccountTokens,
        aggregation: Aggregation | None = None,
    ) -> None:
        self._aggregation = aggregation
        self._tokens = tokens
        self._registry = resources.registry
        self._extensions = extensions
        self._checks = checks
        self._metrics = metrics
        self._openapi = OpenApi(
            resources.schema, resources.registry, discovery.git_version(labctl.__version__), self._others, self._foreign
        )

    async def public(self, path: str, query: Query) -> web.StreamResponse:
        """Answers the paths that need no certificate: health and version."""
        if path.rstrip("/") == "/version":
            document = discovery.version(labctl.__version__, await asyncio.to_thread(build))
            return answer.CompleteResponse(answer.indented(_encode(document)))  # a real server indents this for every client
        return health.serve(self._checks, path, query)

    async def serve(self, call: Call) -> web.StreamResponse:
        path = call.path.rstrip("/") or "/"
        if path.startswith(ROOT):
            return await self._extensions.serve(call)
        if call.method not in ("GET", "HEAD"):
            raise status.method_not_allowed()
        first = "/" + path.split("/")[1]
        if first in ("/version", "/healthz", "/livez", "/readyz"):
            return await self.public(path, call.query)
        if path == "/metrics":
            return self._metrics.serve()
        if path == "/openid/v1/jwks":
            return answer.CompleteResponse(_encode(self._tokens.public_keys()), content_type="application/jwk-set+json")
        if path == "/.well-known/openid-configuration":
            return answer.CompleteResponse(_encode(self._tokens.configuration()))
        if elsewhere := self._elsewhere(path):
            assert self._aggregation is not None
            return await self._aggregation.forward(call, elsewhere)
        if first == "/openapi":
            return await self._openapi.serve(call)
        if path in ("/api", "/apis"):
            return await self._roots(call, path == "/api")
        document = self._document(path)
        if document is None:
            return answer.text(answer.NOT_FOUND, 404)
        return await call.answer(_encode(document))

    def unknown(self, target: Target) -> web.StreamResponse:
        """Answers a path that is not served: with a Status if its group and version are, otherwise in plain text, as a real server does."""
        if self._registry.served(target.group, target.version):
            raise status.unknown_path()
        return answer.text(answer.NOT_FOUND, 404)

    async def _roots(self, call: Call, core: bool) -> web.StreamResponse:
        form = negotiate.accepted(call.request.headers.get("Accept", ""), negotiate.DISCOVERY_SHAPES)
        if form.shape:
            more = self._aggregation.discovered() if self._aggregation and not core else ()
            return await _tagged(call, _encode(discovery.aggregated(self._registry, core, more)), form)
        if core:
            host = call.request.headers.get("Host", "")
            return await call.answer(_encode(discovery.api_versions(host)), form=form)
        return await call.answer(_encode(discovery.group_list(self._registry, self._others())), form=form)

    def _others(self) -> Mapping[str, list[str]]:
        return self._aggregation.versions() if self._aggregation else {}

    def _foreign(self) -> Foreign:
        return self._aggregation.openapi() if self._aggregation else NOTHING

    def _elsewhere(self, path: str) -> APIService | None:
        """Return the APIService whose server answers this path: discovery and OpenAPI v3 of a version that a Service serves."""
        match path.removeprefix("/openapi/v3").split("/")[1:]:
            case ["apis", group, version] if self._aggregation:
                return self._aggregation.find(group, version)
        return None

    def _document(self, path: str) -> dict[str, Any] | None:
        if path == "/":
            return discovery.paths(self._registry, self._others())
        match path.split("/")[1:]:
            case ["api", version]:
                return discovery.resource_list(self._registry, "", version)
            case ["apis", group]:
                return discovery.group(self._registry, group, self._others())
            case ["apis", group, version]:
                return discovery.resource_list(self._registry, group, version)
        return None


async def _tagged(call: Call, document: bytes, form: negotiate.Format) -> web.StreamResponse:
    """Sends a document with an ETag; who has it already (`If-None-Match`) is told so: clients keep discovery on disk, and ask often."""
    tag = f'"{hashlib.sha256(document).hexdigest().upper()}"'
    extra = answer.header_lines({"ETag": tag, "Vary": "Accept"})
    if call.request.headers.get("If-None-Match", "") == tag:
        return answer.CompleteResponse(b"", 304, form.content_type, extra)
    return await call.answer(document, form=form, extra=extra)
