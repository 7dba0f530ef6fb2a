"""A body as text: JSON, or the YAML that people write, read as Kubernetes reads it (no dates, no anchors that grow without bound)."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from labctl.resources import failures

_MAX_ALIASES = 100


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe, and a time stays the text that it is in JSON."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def parse(raw: bytes) -> Any:
    """The value a JSON or YAML document stands for. ApiError 400 if it is neither."""
    if raw[:1] in (b"{", b"["):
        try:
            return msgspec.json.decode(raw)
        except RecursionError as error:
            raise failures.bad_request(f"error converting YAML to JSON: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # `{a: b}` is YAML too
    if raw.count(b"*") > _MAX_ALIASES and raw.count(b"&"):
        raise failures.bad_request("error converting YAML to JSON: yaml: document contains excessive aliasing")
    try:
        return _plain(yaml.load(raw, Loader=_Loader))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise failures.bad_request(f"error converting YAML to JSON: yaml: {_words(error)}") from None


def _words(error: Exception) -> str:
    """`line 3: did not find expected key`, as the real parser says it."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"line {mark.line + 1}: {problem}" if mark and problem else " ".join(str(error).split())


def _plain(value: Any) -> Any:
    """Keys are text in JSON: `1: a` is `{"1": "a"}`."""
    if isinstance(value, dict):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, set, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode()
    return value


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, (str, int, float)):
        return str(key)
    raise ValueError(f"unsupported map key {key!r}")
