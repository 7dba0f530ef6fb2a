"""The syntax tree of a compiled expression, read out of the library's serialized form (the protobuf message `cel.expr.CheckedExpr`).

estimate.py walks it: which fields an expression reads, and what it may cost. Only the parts that are needed for this are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from labctl.errors import LabctlError


class Node(msgspec.Struct, frozen=True):
    """The base of all nodes of the tree."""


class Const(Node, frozen=True):
    """A literal; `size` is that of a string's or bytes' value, 1 of a number's."""

    size: int = 0
    text: str = ""


class Ident(Node, frozen=True):
    name: str


class Select(Node, frozen=True):
    """`operand.field`; `test`: it stands in `has()`."""

    operand: Node
    field: str
    test: bool
    number: int = 0  # its key in the positions


class Call(Node, frozen=True):
    """A function or an operator (`_==_`); a method's target is its first argument."""

    function: str
    arguments: tuple[Node, ...]


class Literal(Node, frozen=True):
    """A list or a map that is written out."""

    parts: tuple[Node, ...]
    is_map: bool


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


def tree(serialized: bytes) -> tuple[Node, dict[int, int]]:
    """Return the tree of `Expression.serialize()`, and where in the text its parts begin, by their numbers."""
    checked = dict(_fields(serialized)).get(2, b"")
    parts = dict(_fields(checked))
    if 4 not in parts:
        raise TreeError("the compiled expression has no tree")
    entries = [dict(_fields(value)) for number, value in _fields(parts.get(5, b"")) if number == 4]
    return _node(parts[4]), {entry.get(1, 0): entry.get(2, 0) for entry in entries}


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
        elif wire == 2:
            size, at = _varint(data, at)
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


def _node(data: bytes) -> Node:
    found = dict(_fields(data))
    for number, reader in _READERS.items():
        if number in found:
            node = reader(found[number])
            return msgspec.structs.replace(node, number=found.get(2, 0)) if isinstance(node, Select) else node
    return Const()


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and all below it."""
    yield node
    below: tuple[Node, ...] = ()
    if isinstance(node, Select):
        below = (node.operand,)
    elif isinstance(node, Call):
        below = node.arguments
    elif isinstance(node, Literal):
        below = node.parts
    elif isinstance(node, Comprehension):
        below = (node.over, node.begin, node.go_on, node.step, node.result)
    for each in below:
        yield from walk(each)


def _const(data: bytes) -> Node:
    for number, value in _fields(data):
        if number in (6, 7):
            return Const(len(value.decode(errors="replace")), value.decode(errors="replace"))
    return Const(1)


def _ident(data: bytes) -> Node:
    return Ident(next((value.decode() for number, value in _fields(data) if number == 1), ""))


def _select(data: bytes) -> Node:
    found = dict(_fields(data))
    return Select(_node(found.get(1, b"")), found.get(2, b"").decode(), bool(found.get(3)))


def _call(data: bytes) -> Node:
    parts = list(_fields(data))
    function = next((value.decode() for number, value in parts if number == 2), "")
    target = [_node(value) for number, value in parts if number == 1]
    return Call(function, (*target, *(_node(value) for number, value in parts if number == 3)))


def _list(data: bytes) -> Node:
    return Literal(tuple(_node(value) for number, value in _fields(data) if number == 1), is_map=False)


def _struct(data: bytes) -> Node:
    entries = [dict(_fields(value)) for number, value in _fields(data) if number == 2]
    return Literal(tuple(_node(entry[key]) for entry in entries for key in (3, 4) if key in entry), is_map=True)


def _comprehension(data: bytes) -> Node:
    found = dict(_fields(data))
    variables = tuple(found[number].decode() for number in (1, 8) if found.get(number))
    parts = [_node(found.get(number, b"")) for number in (2, 4, 5, 6, 7)]
    return Comprehension(variables, parts[0], found.get(3, b"").decode(), *parts[1:])


_READERS: dict[int, Callable[[bytes], Node]] = {3: _const, 4: _ident, 5: _select, 6: _call, 7: _list, 8: _struct, 9: _comprehension}
