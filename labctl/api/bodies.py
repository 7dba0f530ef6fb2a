"""Bodies of writes, in whichever of their three forms they come."""

from __future__ import annotations

import msgspec

from labctl.api import negotiate, protobuf
from labctl.api.call import Call
from labctl.resources import documents
from labctl.resources.large import LARGE_BYTES, aside
from labctl.resources.resources import Body


async def read(call: Call) -> Body:
    """JSON as it came, so that its own reader finds duplicate fields; of YAML and protobuf the object they say. Raises 400, 413, 415."""
    form = negotiate.body_type(call.request.headers.get("Content-Type", ""))
    body = await call.body()
    if form == negotiate.JSON or not body:
        documents.check_json(body)
        return body
    said = await aside(len(body), documents.parse if form == negotiate.YAML else protobuf.decode, body)
    if isinstance(said, dict) and len(body) <= LARGE_BYTES:
        return said
    return msgspec.json.encode(said)  # whoever reads JSON complains of what is no object in the same words


async def read_patch(call: Call, content_type: str) -> bytes:
    """A patch as it came. Raises 400 and 413 for one that is nested too deeply or has too many values; an apply's own reader does that."""
    body = await call.body()
    if content_type != negotiate.APPLY_PATCH:
        documents.check_json(body)
    return body


async def read_if_any(call: Call) -> Body | None:
    """For deletions: most have none."""
    return await read(call) if call.request.can_read_body else None
