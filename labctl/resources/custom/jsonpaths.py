"""JSONPath as printer columns, selectable fields and scale use it: `.spec.replicas`, `.status.conditions[?(@.type=="Ready")].status`, `.spec.list[0]`.

A small part of the language that `kubectl` knows, as apiextensions allows it there. Parsed once; looking up never fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from operator import ge, gt, le, lt
from typing import Any

_STEP = re.compile(
    r"""\.(?P<name>(?:[A-Za-z0-9_$/-]|\\\.)+)
      | \[(?P<index>-?\d{1,9})\]
      | \[(?P<slice>-?\d{0,9}:-?\d{0,9}(?::\d{0,9})?)\]
      | \[(?P<all>\*)\]
      | \.(?P<dotall>\*)
      | \[(?P<quote>['"])(?P<quoted>[^'"]{1,253})(?P=quote)\]
      | \[\?\(\s*@\.(?P<field>[A-Za-z0-9_.-]+)\s*(?:(?P<operator>==|!=|<=|>=|<|>)\s*(?P<bound>'[^']*'|"[^"]*"|-?\d{1,18}|true|false)\s*)?\)\]""",
    re.VERBOSE | re.ASCII,
)
_MAX = 1024
_COMPARE = {"<": lt, "<=": le, ">": gt, ">=": ge}
Step = Callable[[Any], Iterator[Any]]


def parse(text: str) -> Callable[[Any], list[Any]]:
    """Return a function that returns what the path finds in an object. Raises ValueError if it is no path."""
    inner = text.strip()
    if inner.startswith("{") and inner.endswith("}"):
        inner = inner[1:-1]
    inner = inner.removeprefix("$")
    if not inner.startswith((".", "[")) or len(inner) > _MAX:
        raise ValueError(f"invalid path: {text!r}: must begin with a dot")
    steps: list[Step] = []
    at = 0
    while at < len(inner):
        found = _STEP.match(inner, at)
        if found is None:
            raise ValueError(f"unexpected character at {at} of {text!r}")
        steps.append(_step(found))
        at = found.end()
    return lambda value: _look(steps, value)


def _look(steps: Iterable[Step], value: Any) -> list[Any]:
    values = [value]
    for step in steps:
        values = [found for each in values for found in step(each)]
    return values


def _step(found: re.Match[str]) -> Step:
    if found["name"] or found["quoted"]:
        return _named((found["name"] or found["quoted"]).replace("\\.", "."))
    if found["index"]:
        return _indexed(int(found["index"]))
    if found["slice"]:
        return _sliced(slice(*(int(part) if part else None for part in found["slice"].split(":"))))
    if found["field"]:
        return _filtered(found["field"], found["operator"], _literal(found["bound"]) if found["bound"] else None)
    return _all


def _named(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _indexed(index: int) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= index < len(value):
            yield value[index]

    return step


def _sliced(part: slice) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and part.step != 0:
            yield from value[part]

    return step


def _all(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _filtered(field: str, operator: str | None, bound: Any) -> Step:
    """Keep the items whose field compares so with a bound; without an operator, those that have the field."""

    def holds(item: Any) -> bool:
        for name in field.split("."):
            if not isinstance(item, dict) or name not in item:
                return operator == "!="
            item = item[name]
        if operator is None or operator in ("==", "!="):
            return operator is None or (item == bound) == (operator == "==")
        return type(item) is type(bound) and bool(_COMPARE[operator](item, bound))

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from (item for item in value if holds(item))

    return step


def _literal(text: str) -> Any:
    if text[0] in "'\"":
        return text[1:-1]
    return {"true": True, "false": False}.get(text) if text in ("true", "false") else int(text)
