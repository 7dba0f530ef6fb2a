"""Where a schema holds further schemas. All that lies elsewhere in it, such as a default or an enum, is a value, whatever its keys are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Definition = dict[str, Any]
JUNCTORS = ("allOf", "anyOf", "oneOf", "not")
"""What only validates, and says nothing of fields."""

_ONE = ("items", "additionalProperties", "not")
_MANY = ("allOf", "anyOf", "oneOf")


def below(schema: Definition) -> Iterator[Definition]:
    """Yields the schemas that a schema holds directly."""
    if properties := schema.get("properties"):
        yield from properties.values()
    for name in _ONE:
        if isinstance(schema.get(name), dict):
            yield schema[name]
    for name in _MANY:
        yield from schema.get(name) or ()


def changed(schema: Definition, change: Callable[[Definition], Definition]) -> Definition:
    """Returns a copy of a schema with `change` of each schema that it holds directly."""
    made = dict(schema)
    if properties := schema.get("properties"):
        made["properties"] = {name: change(child) for name, child in properties.items()}
    for name in _ONE:
        if isinstance(schema.get(name), dict):
            made[name] = change(schema[name])
    for name in _MANY:
        if schema.get(name):
            made[name] = [change(child) for child in schema[name]]
    return made
