"""This module reads the body of a write, which may be JSON, YAML or protobuf."""

from __future__ import annotations

import msgspec

from labctl.api import negotiate, protobuf
from labctl.api.call import Call
from labctl.resources import documents
from labctl.resources.large import LARGE_BYTES, offload_if_large
from labctl.resources.resources import Body


async def read(call: Call) -> Body:
    """Returns JSON as the bytes that came, so that its decoder can find duplicate fields; YAML and protobuf as a decoded object. Raises 400, 413, 415."""
    form = negotiate.body_type(call.request.headers.get("Content-Type", ""))
    body = await call.body()
    if form == negotiate.JSON or not body:
        documents.check_json(body)
        return body
    decoded = await offload_if_large(len(body), documents.parse_body if form == negotiate.YAML else protobuf.decode, body)
    if isinstance(decoded, documents.Repeating) or (isinstance(decoded, dict) and len(body) <= LARGE_BYTES):
        return decoded
    return msgspec.json.encode(decoded)  # the JSON decoder then reports "not an object" in its own words


async def read_patch(call: Call, content_type: str) -> bytes:
    """Returns a patch as it came. Raises 400 and 413 if it is nested too deeply or has too many values (for an apply patch, its own parser checks that)."""
    body = await call.body()
    if content_type != negotiate.APPLY_PATCH:
        documents.check_json(body)
    return body


async def read_if_any(call: Call) -> Body | None:
    """Returns the body of a deletion, or None: most deletions have no body."""
    return await read(call) if call.request.can_read_body else None
