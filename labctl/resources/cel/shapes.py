"""What an expression knows of a value: the seam between CEL and the schema of a kind, seen by estimate.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol


class Shape(Protocol):
    """A value's type. `most` is the highest number of its characters, items or entries; `fields` None: any key may be there."""

    @property
    def most(self) -> int: ...

    @property
    def fields(self) -> Mapping[str, Shape] | None: ...

    @property
    def item(self) -> Shape | None:
        """Return the shape of a list's items or a map's values, or None if it is unknown."""

    @property
    def key(self) -> Shape | None:
        """Return the shape of a map's keys, or None for a list."""


class ValueShape:
    """The shape of values at hand: several where an expression may mean any of them, such as the items of a list."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        self._values = values

    @property
    def most(self) -> int:
        return max((len(each) for each in self._values if isinstance(each, (str, bytes, list, dict))), default=1)

    @property
    def fields(self) -> Mapping[str, Shape] | None:
        return _Fields(self._values)

    @property
    def item(self) -> Shape | None:
        lists = tuple(item for each in self._values if isinstance(each, list) for item in each)
        return ValueShape(lists + tuple(item for each in self._values if isinstance(each, dict) for item in each.values()))

    @property
    def key(self) -> Shape | None:
        keys = tuple(key for each in self._values if isinstance(each, dict) for key in each)
        return ValueShape(keys) if any(isinstance(each, dict) for each in self._values) else None


class _Fields(Mapping[str, Shape]):
    """The fields of some objects. Each name is there: whether it is undefined, the evaluation says."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        self._objects = [each for each in values if isinstance(each, dict)]

    def __getitem__(self, name: str) -> Shape:
        return ValueShape(tuple(each[name] for each in self._objects if name in each))

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter({name: None for each in self._objects for name in each})

    def __len__(self) -> int:
        return sum(1 for _ in self)
