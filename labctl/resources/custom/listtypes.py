"""Items of a set, and the keys of a list that is a map, are there once. A schema's other validators do not look at that; this is a walk of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from labctl.resources import fields
from labctl.resources.custom.schema import Node
from labctl.resources.kind import FieldError


def repeated(node: Node, value: Any, path: str = "") -> Iterator[FieldError]:
    """Yield what is there twice, at every depth. An entry of a map is named by its key in brackets, as a real server does here."""
    if not node.keyed:
        return
    if isinstance(value, dict):
        for name, item in value.items():
            if name in node.properties:
                yield from repeated(node.properties[name], item, f"{path}.{name}" if path else name)
            elif node.extra is not None:
                yield from repeated(node.extra, item, f"{path}[{name}]")
    elif isinstance(value, list):
        if node.list_type == "set":
            yield from _twice(path, value)
        elif node.list_type == "map":
            yield from _keys(node, value, path)
        if node.items is not None:
            for number, item in enumerate(value):
                yield from repeated(node.items, item, f"{path}[{number}]")


def _keys(node: Node, items: list[Any], path: str) -> Iterator[FieldError]:
    for number, item in enumerate(items):
        if item is not None and not isinstance(item, dict):
            yield fields.invalid(f"{path}[{number}]", item, "must be an object for an array of list-type map")
            return
    yield from _twice(path, [{name: item[name] for name in node.list_keys if name in item} if item else {} for item in items])


def _twice(path: str, values: Sequence[Any]) -> Iterator[FieldError]:
    """Yield each value once that is there again."""
    times: dict[bytes, int] = {}
    for number, value in enumerate(values):
        word = msgspec.json.encode(value, order="sorted")
        times[word] = times.get(word, 0) + 1
        if times[word] == 2:
            yield fields.duplicate(f"{path}[{number}]", value)
