"""Validates an object of a custom kind against its compiled schema, in a real API server's words.

At most 100 errors are collected. A value that an update leaves as it was is not judged again: who changes something else need not mend what an older schema
allowed (KEP-4008). What is said of one value comes in the order of a real server's validators: its type, the pieces under allOf, anyOf, oneOf and not, its
text or number, its items, its enum, its properties. A wrong type hides nothing of what else is wrong.
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

_FORMATS = ("int32", "int64", "float", "float32", "double", "float64")
_FLOAT32_MAX = 3.4028234663852886e38
_VALIDATORS = {bool: 4, str: 5, dict: 5, int: 6, float: 6, list: 6}
"""How many validators of a real server look at a value of a type, counted as it counts them when it has to choose among several schemas."""

_TEXT_OF_A_STEP = 1_000  # characters that are compared with a pattern in about the time of a step
_MOST_LISTED = 100


def validate(node: Node, value: Any, path: str = "", *, old: Any = ABSENT) -> list[FieldError]:
    """Return what is wrong with `value`."""
    try:
        return list(islice(_Validator().value(node, value, path, old), MOST_ERRORS))
    except TooDear:
        why = f"comparing it with its schema takes more than {MOST_STEPS} steps: make the object or the schema smaller"
        return [FieldError(path or "<nil>", "FieldValueForbidden", f"Forbidden: {why}")]


class TooDear(Exception):  # noqa: N818 - it says what was found
    """The object costs more comparisons than one may."""


class _Validator:
    """One look at one object. It counts what it does, and ends when that is too much.

    `compared` is how many of a real server's validators have had a part in the look so far.
    """

    def __init__(self) -> None:
        self._left = MOST_STEPS
        self.compared = 0

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise TooDear

    def value(self, node: Node, value: Any, path: str, old: Any = ABSENT) -> Iterator[FieldError]:
        self._spend(1)
        self.compared += _VALIDATORS.get(type(value), 0)
        if old is not ABSENT and old == value:
            return
        if value is None:
            if not node.nullable and (node.type or node.int_or_string):
                yield _wrong_type(path, node.type or "integer,string", "null")
            yield from _listed_value(node, "null", path)  # Kubernetes lets no null be one of an enum
            return
        if not _has_type(node, value):
            yield from _mismatch(node, value, path)
        yield from self._combined(node, value, path)
        if isinstance(value, str):
            yield from self._text(node, value, path)
        elif isinstance(value, list):
            yield from self._list(node, value, path, old)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield from _number(node, value, path)
        yield from () if node.offers(value) else _listed_value(node, value, path)
        if isinstance(value, dict):
            yield from self._object(node, value, path, old)

    def _text(self, node: Node, value: str, path: str) -> Iterator[FieldError]:
        self._spend(len(value) // _TEXT_OF_A_STEP)
        if node.max_length is not None and len(value) > node.max_length:
            yield fields.too_long(path, node.max_length)
        elif node.min_length is not None and len(value) < node.min_length:
            yield fields.invalid(path, value, f"{path} in body should be at least {node.min_length} chars long")
        elif node.pattern_text and not node.pattern.search(value):
            yield fields.invalid(path, value, f"{path} in body should match '{node.pattern_text}'")
        if node.format and node.type in ("", "string") and not formats.holds(node.format, value):
            why = f"{path} in body must be of type {node.format}: {fields.shown(value)}"
            yield FieldError(path, "FieldValueTypeInvalid", f"Invalid value: {fields.shown(value)}: {why}")

    def _object(self, node: Node, value: dict[str, Any], path: str, old: Any) -> Iterator[FieldError]:
        if node.min_properties is not None and len(value) < node.min_properties:
            yield fields.invalid(path, len(value), f"{path} in body should have at least {node.min_properties} properties")
            return
        if node.max_properties is not None and len(value) > node.max_properties:
            yield fields.too_many(path, len(value), node.max_properties)
            return
        for name, item in value.items():
            child = node.properties.get(name) or node.extra
            if child is not None:
                before = old.get(name, ABSENT) if isinstance(old, dict) else ABSENT
                yield from self.value(child, item, _below(path, name), before)
        for name in node.required:
            if name not in value:
                yield fields.required(_below(path, name))

    def _list(self, node: Node, value: list[Any], path: str, old: Any) -> Iterator[FieldError]:
        if node.items is not None:
            before_of = items_before(node, old)
            for number, item in enumerate(value):
                yield from self.value(node.items, item, f"{path}[{number}]", before_of(item))
        if node.min_items is not None and len(value) < node.min_items:
            yield fields.invalid(path, len(value), f"{path} in body should have at least {node.min_items} items")
        if node.max_items is not None and len(value) > node.max_items:
            yield fields.too_many(path, len(value), node.max_items)
        if node.unique and len({msgspec.json.encode(item, order="sorted") for item in value}) < len(value):
            yield fields.invalid(path, value, f"{path} in body shouldn't contain duplicates")

    def _combined(self, node: Node, value: Any, path: str) -> Iterator[FieldError]:
        """Compare the value with the pieces that only validate. Of several that it may fit, the errors of the nearest are said."""
        if node.any_of and not any(self._fits(each, value) for each in node.any_of):
            yield _combination(f'"{path}" must validate at least one schema (anyOf)')
            yield from self._nearest(node.any_of, value, path)
        if node.one_of and (fitting := sum(self._fits(each, value) for each in node.one_of)) != 1:
            found = f"Found {fitting} valid alternatives" if fitting else "Found none valid"
            yield _combination(f'"{path}" must validate one and only one schema (oneOf). {found}')
            if not fitting:
                yield from self._nearest(node.one_of, value, path)
        yield from self._all(node, value, path)
        if node.not_ is not None and self._fits(node.not_, value):
            yield _combination(f'"{path}" must not validate the schema (not)')

    def _all(self, node: Node, value: Any, path: str) -> Iterator[FieldError]:
        valid = 0
        for each in node.all_of:
            wrong = False
            for error in self.value(each, value, path):
                wrong = True
                yield error
            valid += not wrong
        if valid < len(node.all_of):
            yield _combination(f'"{path}" must validate all the schemas (allOf){"" if valid else ". None validated"}')

    def _nearest(self, pieces: list[Node], value: Any, path: str) -> list[FieldError]:
        """Return the errors of the piece that has most to say of the value: the one for which most validators have a part to look at."""
        best: list[FieldError] = []
        most = -1
        for each in pieces:
            before = self.compared
            errors = list(islice(self.value(each, value, path), MOST_ERRORS))
            if self.compared - before > most:
                best, most = errors, self.compared - before
        return best

    def _fits(self, node: Node, value: Any) -> bool:
        before = self.compared
        fits = next(self.value(node, value, ""), None) is None
        self.compared = before
        return fits


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


def _mismatch(node: Node, value: Any, path: str) -> Iterator[FieldError]:
    """Yield that the value has a wrong type. Of a text with a format a real server speaks as if the format were the type, and it lets a list be one."""
    if node.type == "string" and formats.is_known(node.format):
        if not isinstance(value, list):
            formats_ = {int: "int64", float: "float64"}
            yield _wrong_type(path, node.format, formats_.get(type(value), ""))
        return
    yield _wrong_type(path, "integer,string" if node.int_or_string else node.type, _type_of(value))


def _wrong_type(path: str, wanted: str, found: str) -> FieldError:
    why = f'{path} in body must be of type {wanted}: "{found}"'
    return FieldError(path or "<nil>", "FieldValueTypeInvalid", f'Invalid value: "{found}": {why}')


def _listed_value(node: Node, value: Any, path: str) -> Iterator[FieldError]:
    """Yield that the value is not one of the enum. The texts of all that are allowed are quoted, whatever their type."""
    if node.enum is None:
        return
    said = [each if isinstance(each, str) else msgspec.json.encode(each).decode() for each in node.enum[:_MOST_LISTED]]
    listed = ", ".join(map(fields.shown, said)) + (", ..." if len(node.enum) > _MOST_LISTED else "")
    yield FieldError(path, "FieldValueNotSupported", f"Unsupported value: {fields.shown(value)}: supported values: {listed}")


def _number(node: Node, value: int | float, path: str) -> Iterator[FieldError]:
    value = int(value) if isinstance(value, float) and value.is_integer() else value  # Go prints 4.0 as 4
    yield from _out_of_format(node, value, path)
    if node.multiple_of and not _is_multiple(value, node.multiple_of):
        yield fields.invalid(path, value, f"{path} in body should be a multiple of {_plain(node.multiple_of)}")
    if node.minimum is not None and (value <= node.minimum if node.exclusive_minimum else value < node.minimum):
        words = "greater than" if node.exclusive_minimum else "greater than or equal to"
        yield fields.invalid(path, value, f"{path} in body should be {words} {_plain(node.minimum)}")
    if node.maximum is not None and (value >= node.maximum if node.exclusive_maximum else value > node.maximum):
        words = "less than" if node.exclusive_maximum else "less than or equal to"
        yield fields.invalid(path, value, f"{path} in body should be {words} {_plain(node.maximum)}")
    if node.type == "integer" and isinstance(value, int) and not -(2**63) <= value < 2**63:
        yield _wrong_type(path, "integer", "number")


def _out_of_format(node: Node, value: int | float, path: str) -> Iterator[FieldError]:
    """Yields that the value, or a bound of the schema itself, is no number of the format (since Kubernetes 1.36), in kube-openapi's words and without a path."""
    if node.format not in _FORMATS or node.type not in ("integer", "number"):
        return
    of_schema = ("MultipleOf", node.multiple_of), ("Minimum boundary", node.minimum), ("Maximum boundary", node.maximum)
    for what, number in (("Checked", value), *of_schema):
        if number is not None and not _in_format(node, number):
            yield FieldError(
                "<nil>",
                "FieldValueInvalid",
                f'Invalid value: "": {what} value must be of type {node.type} with format {node.format} in {path}',
            )


def _in_format(node: Node, number: int | float) -> bool:
    if node.type == "number":
        return node.format not in ("float", "float32") or abs(number) <= _FLOAT32_MAX
    bits = 32 if node.format == "int32" else 64
    whole = int(number) if isinstance(number, float) and number.is_integer() else number
    return isinstance(whole, int) and -(2 ** (bits - 1)) <= whole < 2 ** (bits - 1)


def _is_multiple(value: int | float, of: int | float) -> bool:
    """Compare exactly, as decimals: a quotient of floats may be infinite, and 0.3 / 0.1 is no whole number."""
    return (Fraction(str(value)) / Fraction(str(of))).denominator == 1


def _plain(number: int | float) -> str:
    return str(int(number)) if isinstance(number, float) and number.is_integer() else str(number)


def _combination(why: str) -> FieldError:
    """Return an error of several schemas together, of which a real server says neither the field nor the value."""
    return FieldError("<nil>", "FieldValueInvalid", f'Invalid value: "": {why}')


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
