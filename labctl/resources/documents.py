"""Reads the bodies that clients send: JSON, and the YAML that people write, as Kubernetes reads it (a time stays text).

A small body must not cost much work or memory, so this module bounds what a body may mean before anybody walks through it:
how many values it has (an alias of YAML counts as often as it is used), how deep they lie in each other, and how long a number is.
`check_json` looks at bytes only and takes some 2 us for an ordinary pod. What is large is read in a thread, see `large.py`.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import Any

import msgspec
import yaml

from labctl.errors import ApiError
from labctl.resources import failures
from labctl.resources.encoding import NOT_JSON

MAX_VALUES = 100_000
"""How many values (strings, numbers, lists, objects) a body may hold. An Endpoints with 5,000 addresses has 50,000."""
MAX_DEPTH = 200
"""How deep values may lie in each other. Python's recursion ends at 1,000 calls, and some walks make three for a level."""
_MAX_NUMBER = 400  # characters; the longest number that fits a float written out has 309
_MAX_DIRECTIVES = 20  # libyaml compares each %TAG with all before it

_JSON_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKETS = re.compile(rb"[\[{]+|[\]}]+")
# PyYAML's constructors of explicit tags (`!!bool x`, `!!int ""`) raise whatever Python raises on the way.
_NOT_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader; it stops at the first node too many, or too deep, and knows no times and no numbers to the base of 60."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self._nodes = self._depth = 0

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        """The parser calls this before each node, and ascend_resolver after it."""
        self._nodes += 1
        self._depth += 1
        if self._nodes > MAX_VALUES:
            raise _TooMuch
        if self._depth > MAX_DEPTH:
            raise ValueError("exceeded max depth")

    def ascend_resolver(self) -> None:
        self._depth -= 1

    def number(self, node: Any) -> Any:
        """Raises ValueError for a number that JSON can't say."""
        text = self.construct_scalar(node)
        if ":" in text:
            return text  # 22:22 is text for Kubernetes' parser
        if len(text) > _MAX_NUMBER:
            raise ValueError("a number is too long")
        is_int = node.tag.endswith(":int")
        value = self.construct_yaml_int(node) if is_int else self.construct_yaml_float(node)
        if not is_int and not isfinite(value):
            raise ValueError(f"json: unsupported value: {text}")
        return value


class _TooMuch(Exception):
    """The document has more values than a body may have."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.number)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_scalar)


def parse(raw: bytes) -> Any:
    """The value that a JSON or YAML document stands for. Raises ApiError: 400 if it is neither, 413 if it has too many values."""
    if raw[:1] in (b"{", b"["):
        check_json(raw)
        try:
            return msgspec.json.decode(raw)
        except NOT_JSON:
            pass  # `{a: b}` is YAML too
    try:
        raw.decode()  # YAML in UTF-16 is no body of an API request
        if raw.count(b"%TAG") > _MAX_DIRECTIVES:
            raise ValueError("document contains too many directives")
        return _plain(_load(raw))
    except _TooMuch:
        raise too_many_values() from None
    except _NOT_YAML as error:
        raise failures.bad_request(f"error converting YAML to JSON: yaml: {_words(error)}") from None


def check_json(raw: bytes) -> None:
    """Raises ApiError, 400 or 413, for JSON that is nested too deeply or has too many values. It need not be valid JSON."""
    openings = raw.count(b"[") + raw.count(b"{")
    if openings <= MAX_DEPTH and raw.count(b",") + openings < MAX_VALUES:
        return
    bare = _JSON_STRING.sub(b"", raw)
    depth = 0
    for run in _BRACKETS.findall(bare):
        depth += len(run) if run[0] in b"[{" else -len(run)
        if depth > MAX_DEPTH:
            raise failures.bad_request("exceeded max depth")
    if bare.count(b",") + bare.count(b"[") + bare.count(b"{") >= MAX_VALUES:
        raise too_many_values()


def check_depth(value: Any) -> None:
    """Raises ApiError 400 for a value that is nested too deeply: what a patch made may be deeper than each of its parts."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise failures.bad_request("exceeded max depth")
        parts = (item.values() if isinstance(item, dict) else item for item in level)
        level = [child for part in parts for child in part if isinstance(child, (dict, list))]


def too_many_values() -> ApiError:
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {MAX_VALUES} values")


def _load(raw: bytes) -> Any:
    loader = _Loader(raw)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_expanded(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_expanded(root: yaml.Node) -> None:
    """Counts what each node stands for when its aliases are written out. Raises ValueError for too much, and for a node inside itself."""
    sizes: dict[int, tuple[int, int]] = {}  # by id: values, levels; (0, 0) while its children are looked at
    waiting = [root]
    while waiting:
        node = waiting[-1]
        children = _children(node)
        if id(node) not in sizes:
            sizes[id(node)] = (0, 0)
            waiting.extend(child for child in children if id(child) not in sizes)
            if any(sizes.get(id(child)) == (0, 0) for child in children):
                raise ValueError("anchor contains itself")
            continue
        waiting.pop()
        if sizes[id(node)] != (0, 0):
            continue
        values = 1 + sum(sizes[id(child)][0] for child in children)
        levels = 1 + max((sizes[id(child)][1] for child in children), default=0)
        sizes[id(node)] = values, levels
        if values > 2 * MAX_VALUES:  # keys are nodes too
            raise ValueError("document contains excessive aliasing")
        if levels > MAX_DEPTH:
            raise ValueError("exceeded max depth")


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _words(error: Exception) -> str:
    """`line 3: did not find expected key`, as the real parser says it."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"line {mark.line + 1}: {problem}" if mark and problem else " ".join(str(error).split())[:500]


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
