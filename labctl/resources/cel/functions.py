"""What Kubernetes adds to CEL's own functions: lists, regular expressions, quantities, semantic versions, and what the files beside this one have: URLs,
addresses and networks (addresses.py), named formats (formats.py), and what a user may do (authorizer.py).

See "Common Expression Language in Kubernetes" of its documentation. A value of a type that CEL does not have (a quantity, an address) is a map with one
key, the type's name: the library hands Python nothing but plain values. A function that can't answer raises ValueError, which is the evaluation's error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import msgspec

from labctl.resources import quantities
from labctl.resources.cel import addresses, authorizer, formats
from labctl.resources.cel.estimate import MOST_ITEMS

MOST_TEXT = 1 << 20
"""A longer text is not searched by a function of this file."""


class Function(msgspec.Struct, frozen=True):
    """One overload. `takes` and `gives` are words of TYPES in expressions.py; a method's own value is its first parameter."""

    name: str
    takes: tuple[str, ...]
    gives: str
    call: Callable[..., Any]
    method: bool = True


def functions() -> Iterator[Function]:
    """Yield all functions."""
    yield from _lists()
    yield from _texts()
    yield from _quantities()
    yield from _versions()
    for table in (addresses.table, formats.table, authorizer.table):
        for name, takes, gives, call, method in table():
            yield Function(name, takes, gives, call, method)


# -- lists -----------------------------------------------------------------------------------------------------------------------------


def _lists() -> Iterator[Function]:
    yield Function("isSorted", ("list",), "bool", lambda items: all(a <= b for a, b in zip(items, items[1:], strict=False)))
    yield Function("sum", ("list",), "dyn", sum)
    yield Function("min", ("list",), "dyn", lambda items: _least("min", min, items))
    yield Function("max", ("list",), "dyn", lambda items: _least("max", max, items))
    yield Function("_range", ("int",), "list", _range, method=False)
    yield Function("_mapped", ("list",), "any map", lambda pairs: _mapping({key: value} for key, value in pairs))
    yield Function("_merged", ("list",), "any map", _mapping)
    for item in ("int", "double", "string", "bool", "bytes", "timestamp", "duration", "list", "map"):  # the library takes no `dyn` here
        yield Function("_indexOf", ("list", item), "int", lambda items, item: items.index(item) if item in items else -1)
        yield Function("_lastIndexOf", ("list", item), "int", _last_item)
    yield Function("_indexOf", ("string", "string"), "int", lambda text, part: text.find(part))
    yield Function("_indexOf", ("string", "string", "int"), "int", _index)
    yield Function("_lastIndexOf", ("string", "string"), "int", lambda text, part: text.rfind(part))
    yield Function("_lastIndexOf", ("string", "string", "int"), "int", _last_index)


def _range(number: int) -> list[int]:
    if not 0 <= number <= MOST_ITEMS:
        raise ValueError("operation cancelled: actual cost limit exceeded" if number > 0 else f"lists.range: negative size {number}")
    return list(range(number))


def _mapping(parts: Iterable[Mapping[Any, Any]]) -> dict[Any, Any]:
    """Return one map of several. A key that two of them have is an error, as in Kubernetes."""
    whole: dict[Any, Any] = {}
    for part in parts:
        for key, value in part.items():
            if key in whole:
                raise ValueError(f"insert failed: key {json.dumps(key) if isinstance(key, str) else key} already exists")
            whole[key] = value
    return whole


def _last_item(items: list[Any], item: Any) -> int:
    return len(items) - 1 - items[::-1].index(item) if item in items else -1


# The library's own indexOf is for texts only, and a name can be had once, so texts are searched here, too.


def _index(text: str, part: str, at: int) -> int:
    if not 0 <= at <= len(text):
        raise ValueError(f"index out of range: {at}")
    return text.find(part, at)


def _last_index(text: str, part: str, at: int) -> int:
    if not 0 <= at <= len(text):
        raise ValueError(f"index out of range: {at}")
    return text.rfind(part, 0, at + len(part))


def _least(name: str, choose: Callable[[Any], Any], items: list[Any]) -> Any:
    if not items:
        raise ValueError(f"{name} called on empty list")
    return choose(items)


# -- texts -----------------------------------------------------------------------------------------------------------------------------


def _texts() -> Iterator[Function]:
    yield Function("find", ("string", "string"), "string", lambda text, pattern: next(_found(text, pattern, 1), ""))
    yield Function("findAll", ("string", "string"), "strings", lambda text, pattern: list(_found(text, pattern, -1)))
    yield Function("findAll", ("string", "string", "int"), "strings", lambda text, pattern, most: list(_found(text, pattern, most)))
    yield Function("jsonpatch.escapeKey", ("string",), "string", lambda key: key.replace("~", "~0").replace("/", "~1"), method=False)


def _found(text: str, pattern: str, most: int) -> Iterator[str]:
    from labctl.resources.custom.schema import compiled

    if len(text) > MOST_TEXT:
        raise ValueError("text is too long to be searched")
    for number, match in enumerate(compiled(pattern).finditer(text)):
        if number == most:
            return
        yield match.group(0)


# -- quantities ------------------------------------------------------------------------------------------------------------------------

_QUANTITY = "kubernetes.Quantity"


def _quantity(text: str) -> dict[str, str]:
    try:
        return {_QUANTITY: str(quantities.parse(text))}
    except ValueError as error:
        raise ValueError(f"quantity: {error}") from None


def _amount(quantity: Mapping[str, Any] | int) -> Fraction:
    if isinstance(quantity, int):
        return Fraction(quantity)
    return Fraction(_inside(quantity, _QUANTITY))


def _inside(value: Mapping[str, Any], type_: str) -> Any:
    if type_ not in value:
        raise ValueError("no such overload")
    return value[type_]


def _is(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def holds(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return holds


def _as_integer(quantity: Mapping[str, Any]) -> int:
    amount = _amount(quantity)
    if amount.denominator != 1 or not -(2**63) <= amount < 2**63:
        raise ValueError("cannot convert value to integer")
    return int(amount)


def _compare(one: Any, other: Any) -> int:
    return (one > other) - (one < other)


def _quantities() -> Iterator[Function]:
    def made(amount: Fraction) -> dict[str, str]:
        return {_QUANTITY: str(amount)}

    yield Function("quantity", ("string",), "opaque", _quantity, method=False)
    yield Function("isQuantity", ("string",), "bool", _is(_quantity), method=False)
    for method in (True, False):  # Kubernetes' page has a method, its server a function
        yield Function("sign", ("opaque",), "int", lambda one: _compare(_amount(one), 0), method=method)
    yield Function("isInteger", ("opaque",), "bool", lambda one: _is(lambda _text: _as_integer(one))(""))
    yield Function("asInteger", ("opaque",), "int", _as_integer)
    yield Function("asApproximateFloat", ("opaque",), "double", lambda one: float(_amount(one)))
    for number in ("opaque", "int"):
        yield Function("add", ("opaque", number), "opaque", lambda one, other: made(_amount(one) + _amount(other)))
        yield Function("sub", ("opaque", number), "opaque", lambda one, other: made(_amount(one) - _amount(other)))
    yield Function("isLessThan", ("opaque", "opaque"), "bool", lambda one, other: _ordered(one) < _ordered(other))
    yield Function("isGreaterThan", ("opaque", "opaque"), "bool", lambda one, other: _ordered(one) > _ordered(other))
    yield Function("compareTo", ("opaque", "opaque"), "int", lambda one, other: _compare(_ordered(one), _ordered(other)))


# -- semantic versions -----------------------------------------------------------------------------------------------------------------

_VERSION = "kubernetes.Semver"
_SEMVER = re.compile(
    r"(0|[1-9]\d{0,18})\.(0|[1-9]\d{0,18})\.(0|[1-9]\d{0,18})(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?",
    re.ASCII,
)


def _semver(text: str, normalize: bool = False) -> dict[str, str]:
    if normalize:
        text = _normal(text)
    if len(text) > 1024 or not _SEMVER.fullmatch(text):
        raise ValueError(f"semver: invalid version {text[:100]!r}")
    return {_VERSION: text}


def _normal(text: str) -> str:
    """Return a version as semver has it: without a leading v and leading zeros, and with all three numbers (`v01.1` is 1.1.0). A version of less than
    three numbers has nothing after them."""
    parts = text.removeprefix("v")[:1024].split(".", 2)
    for number, part in enumerate(parts):
        bare = part.lstrip("0") if len(part) > 1 else part
        parts[number] = bare if part == bare or bare[:1].isdigit() else f"0{bare}"
    if len(parts) < 3 and re.search("[-+]", parts[-1]):
        raise ValueError("semver: short version cannot contain PreRelease/Build meta data")
    return ".".join(parts + ["0"] * (3 - len(parts)))


def _parts(version: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what versions are ordered by: numbers, then whether it is a release, then the words of a pre-release."""
    found = _SEMVER.fullmatch(_inside(version, _VERSION))
    assert found is not None
    words = [(0, int(word), "") if word.isdigit() else (1, 0, word) for word in (found[4] or "").split(".") if word]
    return int(found[1]), int(found[2]), int(found[3]), not words, words


def _ordered(value: Mapping[str, Any]) -> Any:
    return _parts(value) if _VERSION in value else _amount(value)


def _versions() -> Iterator[Function]:
    yield Function("semver", ("string",), "opaque", _semver, method=False)
    yield Function("isSemver", ("string",), "bool", _is(_semver), method=False)
    yield Function("semver", ("string", "bool"), "opaque", _semver, method=False)
    yield Function(
        "isSemver", ("string", "bool"), "bool", lambda text, normalize: _is(lambda said: _semver(said, normalize))(text), method=False
    )
    for number, name in enumerate(("major", "minor", "patch")):
        yield Function(name, ("opaque",), "int", lambda one, number=number: _parts(one)[number])
