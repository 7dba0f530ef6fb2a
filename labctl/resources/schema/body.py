"""This module parses a JSON body, checks its apiVersion and kind, and finds duplicate fields. Its errors are those of a real server.

Only validate.py calls this. YAML and other formats have become JSON or a dict before.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

import msgspec

from labctl.errors import ApiError
from labctl.resources.encoding import NOT_JSON
from labctl.resources.kind import Kind, Object
from labctl.resources.schema import golang
from labctl.resources.schema.definitions import Schema
from labctl.resources.schema.walk import MAX_STRICT_ERRORS, strict_path

_SCHEME = "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"

SAME_AS = {("policy/v1beta1", "Eviction"): "policy/v1"}
"""Versions of bodies that a real server takes as well, by what they are the same as: kubectl before 1.22 evicts so."""


def parse(kind: Kind, raw: bytes) -> Object:
    """Returns the body's object. If a field occurs twice, the last one counts, as in Kubernetes."""
    try:
        obj = msgspec.json.decode(raw)
    except NOT_JSON as error:
        why = golang.syntax_error(raw) or str(error)
        _unrecognized(kind, raw, f"couldn't get version/kind; json parse error: {why}")
    if type(obj) is not dict:
        wanted = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
        why = f"json: cannot unmarshal {golang.value_name(obj)} into Go value of type {wanted}"
        _unrecognized(kind, raw, f"couldn't get version/kind; json parse error: {why}")
    return obj


def may_repeat(obj: Object, raw: bytes) -> bool:
    """True if the body may contain a field twice. It compares the numbers of quotes: those of the field that did not count are missing in `obj`."""
    return msgspec.json.encode(obj).count(b'"') != raw.count(b'"')


def check_type_meta(schema: Schema, kind: Kind, obj: Object, raw: bytes) -> tuple[str, str]:
    """Returns the apiVersion and kind of the body, and fills in absent ones. Raises ApiError if they are not this kind's."""
    for key in ("apiVersion", "kind"):
        if not isinstance(obj.get(key), (str, type(None))):
            why = f"json: cannot unmarshal {golang.value_name(obj[key])} into Go struct field .{key} of type string"
            _unrecognized(kind, raw, f"couldn't get version/kind; json parse error: {why}")
    api_version, name = obj.get("apiVersion") or kind.api_version, obj.get("kind") or kind.kind
    api_version = SAME_AS.get((api_version, name), api_version)
    if api_version.count("/") > 1:
        _unrecognized(kind, raw, f"unexpected GroupVersion string: {api_version}")
    if (api_version, name) != (kind.api_version, kind.kind):
        why = another_kind(schema, kind, api_version, name)
        raise ApiError(400, "BadRequest", f'{name} in version "{api_version.rpartition("/")[2]}" cannot be handled as a {kind.kind}: {why}')
    obj["apiVersion"], obj["kind"] = api_version, name
    return api_version, name


def another_kind(schema: Schema, kind: Kind, api_version: str, name: str) -> str:
    """Returns the error for an object of another kind: a real server tries to convert it if it knows that kind."""
    group, _, version = api_version.rpartition("/")
    if schema.name_of(group, version, name):
        return f"converting ({version}.{name}) to ({kind.group.partition('.')[0] or 'core'}.{kind.kind}): unknown conversion"
    return f'no kind "{name}" is registered for version "{api_version}" in scheme "{_SCHEME}"'


def _unrecognized(kind: Kind, raw: bytes, why: str) -> NoReturn:
    raise ApiError(400, "BadRequest", f"the object provided is unrecognized (must be of type {kind.kind}): {why} ({_summary(raw)})")


def _summary(raw: bytes, limit: int = 30) -> str:
    """Returns the beginning of a body as a real server shows it: as text if it looks like JSON, otherwise in hexadecimal."""
    if not raw:
        return "<empty>"
    shown, more = raw[:limit], " ..." if len(raw) > limit else ""
    return (shown.decode(errors="replace") if raw[:1] == b"{" else shown.hex()) + more


class _Repeated(dict[str, Any]):
    """A JSON object in which the fields named by `again` occurred more than once."""

    again: tuple[str, ...] = ()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    obj = dict(pairs)
    if len(obj) == len(pairs):
        return obj
    repeated = _Repeated(obj)
    seen: set[str] = set()
    repeated.again = tuple(dict.fromkeys(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return repeated


def duplicates(raw: bytes) -> list[str]:
    """Returns `duplicate field "spec.x"` for each field that occurs twice."""
    messages: list[str] = []

    def look(value: Any, path: list[Any]) -> None:
        if isinstance(value, _Repeated):
            messages.extend(f'duplicate field "{strict_path([*path, key])}"' for key in value.again)
        if isinstance(value, dict):
            for key, child in value.items():
                look(child, [*path, key])
        elif isinstance(value, list):
            for index, child in enumerate(value):
                look(child, [*path, index])

    look(json.loads(raw, object_pairs_hook=_pairs), [])
    return messages[:MAX_STRICT_ERRORS]
