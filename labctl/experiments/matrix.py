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
MAX_VALUES, MAX_CHARACTERS = 2_000_000, 64 << 20  # of everything that is filled in, over all cells
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


class Room:
    """What may still be filled in: a text of 400 KB in a thousand places is 400 MB, and so is a manifest of 2 MB in 200 cells."""

    def __init__(self) -> None:
        self._values, self._characters = MAX_VALUES, MAX_CHARACTERS

    def take(self, characters: int) -> None:
        """Count a value. Raises ValueError if it is too much."""
        self._values -= 1
        self._characters -= characters
        if self._values < 0 or self._characters < 0:
            raise ValueError(
                f"with every `${{...}}` filled in, all cells together have more than {MAX_VALUES} values or {MAX_CHARACTERS >> 20} MB of text"
            )


def fill(tree: Any, values: Mapping[str, Any], used: set[str], room: Room, *, strict: bool = True) -> Any:
    """Return the tree with every `${...}` filled in. `used` collects the names.

    ValueError names one that the matrix does not have, if `strict`; in manifests others may be meant for a shell and stay.
    """
    if isinstance(tree, str):
        return _fill_text(tree, values, used, room, strict)
    room.take(0)
    if isinstance(tree, Mapping):
        return {key: fill(value, values, used, room, strict=strict) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [fill(value, values, used, room, strict=strict) for value in tree]
    return tree


def _fill_text(text: str, values: Mapping[str, Any], used: set[str], room: Room, strict: bool) -> Any:
    whole = _PLACE.fullmatch(text)
    if whole and not whole[1] and whole[2] in values:
        used.add(whole[2].split(".")[0])
        value = values[whole[2]]
        room.take(len(value) if isinstance(value, str) else 0)
        return value

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
        said = _text(values[name])
        room.take(len(said))  # before the whole is put together
        return said

    room.take(len(text))
    return _PLACE.sub(put, text)


def _text(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
