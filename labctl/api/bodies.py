"""Bodies of writes, in whichever of their three forms they come."""

from __future__ import annotations

import msgspec

from labctl.api import negotiate, protobuf
from labctl.api.call import Call
from labctl.resources import documents
from labctl.resources.resources import Body


async def read(call: Call) -> Body:
    """JSON as it came, so that its own reader finds duplicate fields; of YAML and protobuf the object they say. Raises 400, 413, 415."""
    form = negotiate.body_type(call.request.headers.get("Content-Type", ""))
    body = await call.body()
    if form == negotiate.YAML:
        said = documents.parse(body)
        return said if isinstance(said, dict) else msgspec.json.encode(said)  # whoever reads JSON complains of it in the same words
    return protobuf.decode(body) if form == negotiate.PROTOBUF and body else body


async def read_if_any(call: Call) -> Body | None:
    """For deletions: most have none."""
    return await read(call) if call.request.can_read_body else None
