"""Asks an aggregated server for its OpenAPI v2 document, of which the part of one group and version goes into ours.

A server that has none, or one that makes no sense, keeps what it told last; ours is whole without it. The document is not sent again while its ETag, or its
content, is the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging

import msgspec

from labctl.api.aggregation.backends import Unavailable
from labctl.api.aggregation.forward import Forward
from labctl.resources.kinds.apiregistration_v1.apiservice import APIService
from labctl.resources.schema.foreign import NOTHING, Foreign, parsed

TIMEOUT_S = 10.0
BYTES_MAX = 8 << 20

log = logging.getLogger(__name__)


class OpenApiPart(msgspec.Struct, frozen=True):
    """What one server said. `digest` is that of its whole document."""

    foreign: Foreign = NOTHING
    etag: str = ""
    digest: bytes = b""


NO_PART = OpenApiPart()


async def part_of(one: APIService, before: OpenApiPart, forward: Forward) -> OpenApiPart:
    """Return the server's part now; `before` if it says nothing new, or nothing that makes sense."""
    try:
        answered = await forward.ask(one, "GET", "/openapi/v2", TIMEOUT_S, BYTES_MAX, etag=before.etag)
    except Unavailable as error:
        log.info("OpenAPI v2 of the APIService %s: %s", one.metadata.name, error)
        return before
    digest = hashlib.sha256(answered.body).digest()
    if answered.status != 200 or digest == before.digest:
        return before
    try:
        foreign = await asyncio.to_thread(parsed, answered.body, one.spec.group, one.spec.version)
    except ValueError as error:
        log.warning("OpenAPI v2 of the APIService %s is left out: %s", one.metadata.name, error)
        return OpenApiPart(before.foreign, answered.etag, digest)
    return OpenApiPart(foreign, answered.etag, digest)
