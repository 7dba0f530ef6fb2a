"""The matrix: every combination of its values is a cell, and `${NAME}` in the file or a manifest stands for the cell's value.

    matrix:
      replicas: [1, 2, 3]
      timing:
        - {name: kubernetes, duration: 360s}
        - {name: lab, duration: 15s}

`${replicas}` alone keeps the value's type; inside a longer text it is put in as text. A value with fields has a `name`, for which `${timing}` stands, and the
others are `${timing.duration}`. `$${` writes `${` itself. Nothing is computed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from labctl.experiments.result import Cell

MAX_CELLS = 200
_PLACE = re.compile(r"(\$?)\$\{([^}]{0,100})\}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


def combinations(matrix: Any) -> list[Mapping[str, Any]]:
    """Return the values of every cell, by the names that may stand in `${...}`. ValueError says what is wrong with the matrix."""
    if not isinstance(matrix, Mapping):
        raise ValueError("write a map from a name to a list of values, such as replicas: [1, 2, 3]")
    count = 1
    for name, values in matrix.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{str(name)[:50]!r} is no name: use lower-case letters, digits and _")
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise ValueError(f"{name} needs a list of values, such as [1, 2, 3]")
        count *= len(values)
        if count > MAX_CELLS:
            raise ValueError(f"there are more than {MAX_CELLS} combinations: leave some values out")
        texts = [_text(_fields(name, value)[name]) for value in values]
        if len(set(texts)) < len(texts):
            raise ValueError(f"{name} has a value twice")
    chosen = itertools.product(*([_fields(name, value) for value in values] for name, values in matrix.items()))
    return [dict(itertools.chain.from_iterable(fields.items() for fields in cell)) for cell in chosen]


def _fields(name: str, value: Any) -> dict[str, Any]:
    """Return what `${name}` and `${name.FIELD}` stand for."""
    if not isinstance(value, Mapping):
        if not isinstance(value, str | int | float):
            raise ValueError(f"{name} has a value that is neither a text, a number nor true or false")
        return {name: value}
    if "name" not in value or not all(isinstance(key, str) and isinstance(each, str | int | float) for key, each in value.items()):
        raise ValueError(f"a value of {name} with fields needs a `name`, and texts or numbers in the others")
    return {name: value["name"], **{f"{name}.{key}": each for key, each in value.items() if key != "name"}}


def cell(values: Mapping[str, Any]) -> Cell:
    """Return a cell's name in results: the texts of its values, without their fields."""
    return {name: _text(value) for name, value in values.items() if "." not in name}


def fill(tree: Any, values: Mapping[str, Any], used: set[str], *, strict: bool = True) -> Any:
    """Return the tree with every `${...}` filled in. `used` collects the names.

    ValueError names one that the matrix does not have, if `strict`; in manifests others may be meant for a shell and stay.
    """
    if isinstance(tree, str):
        return _fill_text(tree, values, used, strict)
    if isinstance(tree, Mapping):
        return {key: fill(value, values, used, strict=strict) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [fill(value, values, used, strict=strict) for value in tree]
    return tree


def _fill_text(text: str, values: Mapping[str, Any], used: set[str], strict: bool) -> Any:
    whole = _PLACE.fullmatch(text)
    if whole and not whole[1] and whole[2] in values:
        used.add(whole[2].split(".")[0])
        return values[whole[2]]

    def put(match: re.Match[str]) -> str:
        escaped, name = match.groups()
        if escaped:
            return match[0][1:]
        if name not in values:
            if strict:
                there = ", ".join(values)
                raise ValueError(f"${{{name}}} is no name of the matrix: " + (f"it has {there}" if there else "the file has no matrix"))
            return match[0]
        used.add(name.split(".")[0])
        return _text(values[name])

    return _PLACE.sub(put, text)


def _text(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
