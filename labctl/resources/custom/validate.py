"""Validates an object of a custom kind against its compiled schema, in a real API server's words.

At most 100 errors are collected, and a value that has the wrong type is not looked into. A value that an update leaves as it was is not judged again: who
changes something else need not mend what an older schema allowed (KEP-4008).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from typing import Any

import msgspec

from labctl.resources import fields
from labctl.resources.custom import formats
from labctl.resources.custom.correlate import ABSENT, items_before
from labctl.resources.custom.schema import Node
from labctl.resources.kind import FieldError

MOST_ERRORS = 100

MOST_STEPS = 300_000
"""How many comparisons of a value with a piece of schema one object may cost: seconds. An object has at most 100,000 values (body.py)."""

_TEXT_OF_A_STEP = 1_000  # characters that are compared with a pattern in about the time of a step
_MOST_LISTED = 100


def validate(node: Node, value: Any, path: str = "", *, embedded: bool = True, old: Any = ABSENT) -> list[FieldError]:
    """Return what is wrong with `value`. At the root, the server itself checks apiVersion, kind and metadata (`embedded`)."""
    try:
        return list(islice(_Validator().value(node, value, path, embedded, old), MOST_ERRORS))
    except TooDear:
        why = f"comparing it with its schema takes more than {MOST_STEPS} steps: make the object or the schema smaller"
        return [FieldError(path or "<nil>", "FieldValueForbidden", f"Forbidden: {why}")]


class TooDear(Exception):  # noqa: N818 - it says what was found
    """The object costs more comparisons than one may."""


class _Validator:
    """One look at one object. It counts what it does, and ends when that is too much."""

    def __init__(self) -> None:
        self._left = MOST_STEPS

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise TooDear

    def value(self, node: Node, value: Any, path: str, embedded: bool = False, old: Any = ABSENT) -> Iterator[FieldError]:
        self._spend(1)
        if old is not ABSENT and old == value:
            return
        if value is None:
            if not node.nullable and (node.type or node.int_or_string):
                yield _wrong_type(path, node.type or "integer,string", "null")
            return
        if not _has_type(node, value):
            yield _wrong_type(path, "integer,string" if node.int_or_string else node.type, _type_of(value))
            return
        if node.enum is not None and not node.offers(value):
            yield FieldError(
                path, "FieldValueNotSupported", f"Unsupported value: {fields.shown(value)}: supported values: {_listed(node.enum)}"
            )
        if isinstance(value, str):
            yield from self._text(node, value, path)
        elif isinstance(value, dict):
            yield from self._object(node, value, path, embedded or node.embedded, old)
        elif isinstance(value, list):
            yield from self._list(node, value, path, old)
        elif not isinstance(value, bool):
            yield from _number(node, value, path)
        yield from self._combined(node, value, path)

    def _text(self, node: Node, value: str, path: str) -> Iterator[FieldError]:
        if node.max_length is not None and len(value) > node.max_length:
            yield fields.too_long(path, node.max_length)
        if node.min_length is not None and len(value) < node.min_length:
            yield fields.invalid(path, value, f"{path} in body should be at least {node.min_length} chars long")
        self._spend(len(value) // _TEXT_OF_A_STEP)
        if node.pattern_text and not node.pattern.search(value):
            yield fields.invalid(path, value, f"{path} in body should match '{node.pattern_text}'")
        if node.format and not formats.holds(node.format, value):
            yield fields.invalid(path, value, f"{path} in body must be of type {node.format}: {fields.shown(value)}")

    def _object(self, node: Node, value: dict[str, Any], path: str, embedded: bool, old: Any) -> Iterator[FieldError]:
        for name in node.required:
            if name not in value:
                yield fields.required(_below(path, name))
        if node.max_properties is not None and len(value) > node.max_properties:
            yield fields.too_many(path, len(value), node.max_properties)
        if node.min_properties is not None and len(value) < node.min_properties:
            yield fields.invalid(path, value, f"{path} in body should have at least {node.min_properties} properties")
        if embedded and path:
            yield from _embedded(value, path)
        for name, item in value.items():
            child = node.properties.get(name) or node.extra
            if child is not None and not (embedded and name == "metadata"):
                before = old.get(name, ABSENT) if isinstance(old, dict) else ABSENT
                yield from self.value(child, item, _below(path, name), old=before)

    def _list(self, node: Node, value: list[Any], path: str, old: Any) -> Iterator[FieldError]:
        if node.max_items is not None and len(value) > node.max_items:
            yield fields.too_many(path, len(value), node.max_items)
            return
        if node.min_items is not None and len(value) < node.min_items:
            yield fields.invalid(path, value, f"{path} in body should have at least {node.min_items} items")
        if node.unique and len({msgspec.json.encode(item, order="sorted") for item in value}) < len(value):
            yield fields.invalid(path, value, f"{path} in body shouldn't contain duplicates")
        yield from _repeated(node, value, path)
        if node.items is not None:
            before_of = items_before(node, old)
            for number, item in enumerate(value):
                yield from self.value(node.items, item, f"{path}[{number}]", old=before_of(item))

    def _combined(self, node: Node, value: Any, path: str) -> Iterator[FieldError]:
        for each in node.all_of:
            yield from self.value(each, value, path)
        if node.any_of and not any(self._fits(each, value) for each in node.any_of):
            yield _schema_error(path, value, f'"{path}" must validate at least one schema (anyOf)')
            yield from self.value(node.any_of[0], value, path)
        if node.one_of:
            fitting = sum(self._fits(each, value) for each in node.one_of)
            if fitting != 1:
                found = "none" if not fitting else "multiple"
                yield _schema_error(path, value, f'"{path}" must validate one and only one schema (oneOf). Found {found} valid')
                if not fitting:
                    yield from self.value(node.one_of[0], value, path)
        if node.not_ is not None and self._fits(node.not_, value):
            yield _schema_error(path, value, f'"{path}" must not validate the schema (not)')

    def _fits(self, node: Node, value: Any) -> bool:
        return next(self.value(node, value, ""), None) is None


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, float):
        return "number"
    names = {str: "string", int: "integer", dict: "object", list: "array"}
    return names.get(type(value), "null")


def _has_type(node: Node, value: Any) -> bool:
    if node.int_or_string:
        return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))
    if not node.type:
        return True
    if node.type == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if node.type == "integer":
        return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())
    return _type_of(value) == node.type


def _wrong_type(path: str, wanted: str, found: str) -> FieldError:
    why = f'{path} in body must be of type {wanted}: "{found}"'
    return FieldError(path or "<nil>", "FieldValueTypeInvalid", f'Invalid value: "{found}": {why}')


def _listed(values: list[Any]) -> str:
    more = ", ..." if len(values) > _MOST_LISTED else ""
    return ", ".join(fields.shown(value) for value in values[:_MOST_LISTED]) + more


def _number(node: Node, value: int | float, path: str) -> Iterator[FieldError]:
    if node.minimum is not None and (value <= node.minimum if node.exclusive_minimum else value < node.minimum):
        words = "greater than" if node.exclusive_minimum else "greater than or equal to"
        yield fields.invalid(path, value, f"{path} in body should be {words} {_plain(node.minimum)}")
    if node.maximum is not None and (value >= node.maximum if node.exclusive_maximum else value > node.maximum):
        words = "less than" if node.exclusive_maximum else "less than or equal to"
        yield fields.invalid(path, value, f"{path} in body should be {words} {_plain(node.maximum)}")
    if node.multiple_of and not _is_multiple(value, node.multiple_of):
        yield fields.invalid(path, value, f"{path} in body should be a multiple of {_plain(node.multiple_of)}")
    if node.type == "integer" and isinstance(value, int) and not -(2**63) <= value < 2**63:  # Kubernetes does not look at `format: int32`
        yield fields.invalid(path, "number", f'{path} in body must be of type integer: "number"')


def _is_multiple(value: int | float, of: int | float) -> bool:
    """Compare exactly, as decimals: a quotient of floats may be infinite, and 0.3 / 0.1 is no whole number."""
    return (Fraction(str(value)) / Fraction(str(of))).denominator == 1


def _plain(number: int | float) -> str:
    return str(int(number)) if isinstance(number, float) and number.is_integer() else str(number)


def _embedded(value: dict[str, Any], path: str) -> Iterator[FieldError]:
    """Check that an object inside the object has its apiVersion and kind."""
    for name in ("apiVersion", "kind"):
        if not value.get(name):
            yield fields.required(_below(path, name), "must not be empty")


def _repeated(node: Node, value: list[Any], path: str) -> Iterator[FieldError]:
    """Items of a set, and keys of a list that is a map, are there once."""
    if node.list_type not in ("set", "map"):
        return
    seen: set[bytes] = set()
    for number, item in enumerate(value):
        if node.list_type == "map":
            if not isinstance(item, dict):
                continue
            defaults = node.items.properties if node.items else {}
            key = {
                name: item.get(name, defaults[name].default if name in defaults and defaults[name].has_default else None)
                for name in node.list_keys
            }
            shown: Any = {name: said for name, said in key.items() if said is not None}
        else:
            shown = item
        word = msgspec.json.encode(shown, order="sorted")
        if word in seen:
            yield fields.duplicate(f"{path}[{number}]", shown)
        seen.add(word)


def _schema_error(path: str, value: Any, why: str) -> FieldError:
    return FieldError(path or "<nil>", "FieldValueInvalid", f"Invalid value: {fields.shown(value)}: {why}")


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
