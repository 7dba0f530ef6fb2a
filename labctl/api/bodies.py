"""Bodies of writes, in whichever of their three forms they come."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from labctl.api import negotiate, protobuf, status
from labctl.api.call import Call
from labctl.resources.kind import Object
from labctl.resources.resources import Body


async def read(call: Call) -> Body:
    """JSON as it came, so that its own reader finds duplicate fields; of YAML and protobuf the object they say. Raises 400, 413, 415."""
    form = negotiate.body_type(call.request.headers.get("Content-Type", ""))
    body = await call.body()
    if form == negotiate.YAML:
        return parse_yaml(body)
    return protobuf.decode(body) if form == negotiate.PROTOBUF and body else body


async def read_if_any(call: Call) -> Body | None:
    """For deletions: most have none."""
    return await read(call) if call.request.can_read_body else None


def as_object(body: Body) -> Object:
    """The object that a body says, for who must look into it before it is written."""
    if not isinstance(body, bytes):
        return body
    try:
        said = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise status.bad_request(f"couldn't decode the body: {error}") from error
    if not isinstance(said, dict):
        raise status.bad_request("the body is not an object")
    return said


def parse_yaml(body: bytes) -> Any:
    """YAML as plain values. Raises 400 with the parser's words and line."""
    try:
        return yaml.load(body, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise status.bad_request(f"error converting YAML to JSON: yaml: {_one_line(error)}") from error


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}: {problem}" if mark else " ".join(problem.split())
