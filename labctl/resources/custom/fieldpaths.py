"""Paths to fields of a schema, as rules name them in `fieldPath` and versions in `selectableFields`: `.spec.list['a key'].name`.

The words of errors are those of a real server, which reads a path token by token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from labctl.resources import fields
from labctl.resources.custom.schema import Node
from labctl.resources.kind import FieldError, Object

_TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|[.\[\]]|[^.\[\]']+|'", re.DOTALL)
_NO_FIELD = "does not refer to a valid field"
_SELECTABLE = ("string", "boolean", "integer")
_NOT_SELECTABLE = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."


def resolve(text: str, node: Node, *, brackets: bool = True) -> tuple[tuple[str, ...], Node]:
    """Return the names on a path and the node that it leads to. Raises ValueError, which says why it leads nowhere."""
    tokens, names = iter(_TOKEN.findall(text)), []
    token = next(tokens, None)
    if token is None:
        raise ValueError("unexpected end of JSON path")
    while token is not None:
        if token == "[":
            if not brackets:
                raise ValueError("array notation is not allowed")
            quoted = _next(tokens)
            if len(quoted) < 2 or quoted[0] != "'" or quoted[-1] != "'":
                raise ValueError(f"expected single quoted string but got {quoted}")
            name = re.sub(r"\\(.)", r"\1", quoted[1:-1])
            if (closing := _next(tokens)) != "]":
                raise ValueError(f"expected ] but got {closing}")
        elif token == ".":
            name = _next(tokens)
        else:
            raise ValueError(f"expected [ or . but got: {token}")
        node = _below(node, name)
        names.append(name)
        token = next(tokens, None)
    return tuple(names), node


def _next(tokens: Iterator[str]) -> str:
    token = next(tokens, None)
    if token is None:
        raise ValueError("unexpected end of JSON path")
    return token


def _below(node: Node, name: str) -> Node:
    below = node.properties.get(name) or node.extra
    if below is None:
        raise ValueError(_NO_FIELD)
    return below


def of_rule(path: str, text: str, node: Node) -> Iterator[FieldError]:
    """Yield what is wrong with a rule's `fieldPath`, which begins at the rule's own node."""
    if not text:
        return
    if not text.strip():
        yield fields.invalid(path, text, "fieldPath must be non-empty if specified")
    if "\n" in text or "\r" in text:
        yield fields.invalid(path, text, "fieldPath must not contain line breaks")
    try:
        resolve(text, node)
    except ValueError as error:
        yield fields.invalid(path, text, f"fieldPath must be a valid path: {error}")


def selectable(path: str, said: Sequence[Object], schema: Any, most: int) -> Iterator[FieldError]:
    """Yield what is wrong with `selectableFields`: each names one field of a plain type, and none of them the same."""
    root, seen = Node(schema), set()
    for number, each in enumerate(said):
        at, text = f"{path}[{number}].jsonPath", each.get("jsonPath", "")
        if not text:
            yield fields.required(at)
            continue
        try:
            names, node = resolve(text, root, brackets=False)
        except ValueError as error:
            yield fields.invalid(at, text, f"is an invalid path: {error}")
            continue
        if names[0] == "metadata":
            yield fields.invalid(at, text, "must not point to fields in metadata")
        if node.type not in _SELECTABLE:
            yield fields.invalid(at, text, _NOT_SELECTABLE)
        if names in seen:
            yield fields.duplicate(at, text)
        seen.add(names)
    if len(seen) > most:
        yield fields.too_many(path, len(seen), most)
