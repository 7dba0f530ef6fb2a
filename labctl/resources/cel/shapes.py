"""What an expression knows of a value: the seam between CEL and the schema of a kind, seen by estimate.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Shape(Protocol):
    """A value's type. `most` is the highest number of its characters, items or entries; `fields` None: any key may be there."""

    @property
    def most(self) -> int: ...

    @property
    def sized(self) -> bool:
        """Whether its comparison takes the longer the bigger it is: a text, a list, a map."""

    @property
    def fields(self) -> Mapping[str, Shape] | None: ...

    @property
    def item(self) -> Shape | None:
        """What a list's items or a map's values are; None where nothing is known."""

    @property
    def key(self) -> Shape | None:
        """What a map's keys are; None for a list."""
