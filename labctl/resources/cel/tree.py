"""The syntax tree of a compiled expression, read out of the library's serialized form (the protobuf message `cel.expr.CheckedExpr`).

estimate.py walks it: which fields an expression reads, and what it may cost; checker.py: which types its parts have. Only the parts that are needed for
this are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from labctl.errors import LabctlError


class Node(msgspec.Struct, frozen=True):
    """The base of all nodes of the tree. `number` is the node's key in the positions."""

    number: int


class Const(Node, frozen=True):
    """A literal; `size` is that of a string's or bytes' value, 1 of a number's. `type` is a word such as int, null or string; `text` is that of a string, or
    an integer that is not negative."""

    size: int = 0
    text: str = ""
    type: str = ""


class Ident(Node, frozen=True):
    name: str


class Select(Node, frozen=True):
    """`operand.field`; `test`: it stands in `has()`."""

    operand: Node
    field: str
    test: bool


class Call(Node, frozen=True):
    """A function or an operator (`_==_`); a method's target is its first argument."""

    function: str
    arguments: tuple[Node, ...]
    method: bool = False


class Literal(Node, frozen=True):
    """A list, a map or a message that is written out. Of a map, the parts are keys and values in turns. `optional` are the numbers of those items or
    values that may be absent (`[?x]`); a message has a `name`, and of its fields the parts are the values."""

    parts: tuple[Node, ...]
    is_map: bool
    optional: frozenset[int] = frozenset()
    name: str = ""


class Comprehension(Node, frozen=True):
    """What `all`, `exists`, `map`, `filter` and `cel.bind` are made of. `variables`: of the item, or of index and item."""

    variables: tuple[str, ...]
    over: Node
    total: str
    begin: Node
    go_on: Node
    step: Node
    result: Node


class TreeError(LabctlError):
    """The library's form is not what it was when this was written."""


def tree(serialized: bytes) -> Node:
    """Return the tree of `Expression.serialize()`."""
    expression = next((value for number, value in _fields(_checked(serialized)) if number == 4), None)
    if expression is None:
        raise TreeError("the compiled expression has no tree")
    return _node(expression)


def positions(serialized: bytes) -> dict[int, int]:
    """Return where in the text the parts of the expression begin, by their numbers."""
    source = next((value for number, value in _fields(_checked(serialized)) if number == 5), b"")
    entries = [dict(_fields(value)) for number, value in _fields(source) if number == 4]
    return {entry.get(1, 0): entry.get(2, 0) for entry in entries}


def _checked(serialized: bytes) -> bytes:
    return next((value for number, value in _fields(serialized) if number == 2), b"")


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    at, end = 0, len(data)
    while at < end:
        tag = data[at]
        at += 1
        if tag >= 0x80:
            tag, at = _varint(data, at - 1)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
        elif wire == 2:
            size = data[at]
            at += 1
            if size >= 0x80:
                size, at = _varint(data, at - 1)
            yield tag >> 3, data[at : at + size]
            at += size
        elif wire == 1:
            yield tag >> 3, data[at : at + 8]
            at += 8
        else:
            raise TreeError(f"unknown wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def names(node: Node, name: str) -> bool:
    """Tell whether the node is this variable."""
    return isinstance(node, Ident) and node.name == name


def _node(data: bytes) -> Node:
    found = dict(_fields(data))
    for number, reader in _READERS.items():
        if number in found:
            return reader(found.get(2, 0), found[number])
    return Const(found.get(2, 0))


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and all below it."""
    yield node
    for each in below(node):
        yield from walk(each)


def below(node: Node) -> tuple[Node, ...]:
    """Return the parts of a node."""
    if isinstance(node, Select):
        return (node.operand,)
    if isinstance(node, Call):
        return node.arguments
    if isinstance(node, Literal):
        return node.parts
    if isinstance(node, Comprehension):
        return (node.over, node.begin, node.go_on, node.step, node.result)
    return ()


_INTEGER = 3
_CONSTANTS = {1: "null", 2: "bool", 3: "int", 4: "uint", 5: "double", 6: "string", 7: "bytes"}


def _const(number: int, data: bytes) -> Node:
    for kind, value in _fields(data):
        if kind in (6, 7):
            text = value.decode(errors="replace")
            return Const(number, len(text), text, _CONSTANTS[kind])
        return Const(number, 1, str(value) if kind == _INTEGER else "", _CONSTANTS.get(kind, ""))
    return Const(number, 1)


def _ident(number: int, data: bytes) -> Node:
    return Ident(number, next((value.decode() for kind, value in _fields(data) if kind == 1), ""))


def _select(number: int, data: bytes) -> Node:
    found = dict(_fields(data))
    return Select(number, _node(found.get(1, b"")), found.get(2, b"").decode(), bool(found.get(3)))


def _call(number: int, data: bytes) -> Node:
    parts = list(_fields(data))
    function = next((value.decode() for kind, value in parts if kind == 2), "")
    target = [_node(value) for kind, value in parts if kind == 1]
    return Call(number, function, (*target, *(_node(value) for kind, value in parts if kind == 3)), bool(target))


def _list(number: int, data: bytes) -> Node:
    parts = list(_fields(data))
    optional: list[int] = []
    for kind, value in parts:
        if kind == 2:
            optional += [value] if isinstance(value, int) else _varints(value)
    return Literal(number, tuple(_node(value) for kind, value in parts if kind == 1), False, frozenset(optional))


def _varints(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _struct(number: int, data: bytes) -> Node:
    parts = list(_fields(data))
    entries = [dict(_fields(value)) for kind, value in parts if kind == 2]
    name = next((value.decode() for kind, value in parts if kind == 1), "")
    optional = frozenset(index for index, entry in enumerate(entries) if entry.get(5))
    return Literal(number, tuple(_node(entry[key]) for entry in entries for key in (3, 4) if key in entry), True, optional, name)


def _comprehension(number: int, data: bytes) -> Node:
    found = dict(_fields(data))
    variables = tuple(found[kind].decode() for kind in (1, 8) if found.get(kind))
    parts = [_node(found.get(kind, b"")) for kind in (2, 4, 5, 6, 7)]
    return Comprehension(number, variables, parts[0], found.get(3, b"").decode(), *parts[1:])


_READERS: dict[int, Callable[[int, bytes], Node]] = {3: _const, 4: _ident, 5: _select, 6: _call, 7: _list, 8: _struct, 9: _comprehension}
