"""This module parses the bodies that clients send: JSON, and YAML as Kubernetes reads it (a time stays text).

A small body must not cause much work or memory, so this module checks a body's limits before anything else reads it: the number of its
values (an alias of YAML counts as often as it is used), how deeply they are nested, and the length of its numbers.
`check_json` looks only at the bytes and takes about 2 us for an ordinary pod. Large bodies are parsed in a thread, see `large.py`.
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
"""How deeply values may be nested. Python allows a recursion of 1,000 calls, and some functions need three for each level."""
_MAX_NUMBER = 400  # characters; the largest float has 309 digits when it is written out
_MOST_REPEATED = 100  # repeated keys that are told, as many as a real server collects
_MAX_DIRECTIVES = 20  # libyaml compares each %TAG with all before it

_JSON_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKETS = re.compile(rb"[\[{]+|[\]}]+")
# PyYAML's constructors of explicit tags (`!!bool x`, `!!int ""`) raise many of Python's errors.
_NOT_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A version of PyYAML's safe loader that stops when there are too many nodes or they are nested too deeply, and that reads times and `22:22` as text."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self._nodes = self._depth = 0

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        """Count a node. The parser calls this before each node, and ascend_resolver after it."""
        self._nodes += 1
        self._depth += 1
        if self._nodes > MAX_VALUES:
            raise _TooMuch
        if self._depth > MAX_DEPTH:
            raise ValueError("exceeded max depth")

    def ascend_resolver(self) -> None:
        self._depth -= 1

    def number(self, node: Any) -> Any:
        """Reads a number. Raises ValueError for one that JSON does not have."""
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
    """Parses a JSON or YAML document. Raises ApiError 400 if it is neither, and 413 if it has too many values."""
    if raw[:1] in (b"{", b"["):
        check_json(raw)
        try:
            return msgspec.json.decode(raw)
        except NOT_JSON:
            pass  # `{a: b}` is YAML too
    try:
        raw.decode()  # the API does not accept YAML in UTF-16
        if raw.count(b"%TAG") > _MAX_DIRECTIVES:
            raise ValueError("document contains too many directives")
        return _plain(_load(raw))
    except _TooMuch:
        raise too_many_values() from None
    except _NOT_YAML as error:
        raise failures.bad_request(f"error converting YAML to JSON: yaml: {_words(error)}") from None


def repeated_keys(raw: bytes) -> list[str]:
    """Returns `line 3: key "x" already set in map` for each key that a map of a JSON or YAML document has twice, in the real parser's words.

    The document is one that `parse` accepted.
    """
    loader = _Loader(raw)
    try:
        root = loader.get_single_node()
    finally:
        loader.dispose()
    found: dict[tuple[int, str], str] = {}
    seen: set[int] = set()
    waiting = [root] if root is not None else []
    while waiting and len(found) < _MOST_REPEATED:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        waiting.extend(_children(node))
        keys: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in keys:
                line = key.start_mark.line + 1
                found[line, key.value] = f'line {line}: key "{key.value}" already set in map'
            keys.add(key.value)
    return [found[place] for place in sorted(found)]


class Repeating(dict[str, Any]):
    """The object of a YAML body in which some map has a key twice; the last one counts. `repeated` says where, in the words of `repeated_keys`."""

    repeated: tuple[str, ...] = ()


def parse_body(raw: bytes) -> Any:
    """Parses the YAML body of a write, as `parse` does. An object in which a key was said twice is a Repeating."""
    value = parse(raw)
    if not isinstance(value, dict):
        return value
    try:
        repeated = repeated_keys(raw)
    except (_TooMuch, *_NOT_YAML):  # it is JSON, of which YAML does not take all
        return value
    if not repeated:
        return value
    found = Repeating(value)
    found.repeated = tuple(repeated)
    return found


def check_json(raw: bytes) -> None:
    """Raises ApiError 400 or 413 for JSON that is nested too deeply or has too many values. It does not check whether the JSON is valid."""
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
    """Raises ApiError 400 for a value that is nested too deeply. The result of a patch can be deeper than the patch and the object."""
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
    """Counts the values of each node as if its aliases were written out. Raises ValueError if there are too many, or if a node contains itself."""
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
    """Words an error as the real parser does: `line 3: did not find expected key`."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"line {mark.line + 1}: {problem}" if mark and problem else " ".join(str(error).split())[:500]


def _plain(value: Any) -> Any:
    """Turns keys into text, because JSON has no others: `1: a` is `{"1": "a"}`."""
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
