"""What kinds have in common that labctl keeps for programs and does not act on: whoever makes an object is told so in a `Warning:`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from labctl.resources import fields
from labctl.resources.kind import FieldError, Object

Cell = Callable[[Any, float], str | int]


def stored_only(why: str) -> Callable[[Object, Object | None], Iterable[str]]:
    """Returns a kind's `warnings`: `why` for each new object."""
    return lambda _new, old: () if old is not None else (why,)


def at(path: str, missing: str = "") -> Cell:
    """Returns a cell that shows the value at a dotted path of a GenericObject; `missing` where there is none."""

    def shown(view: Any, _now_s: float) -> str | int:
        value = view.at(path)
        if isinstance(value, bool):
            return "true" if value else "false"
        if value is None or value == "":
            return missing
        return value if isinstance(value, str | int) else ",".join(str(each) for each in value)

    return shown


def fixed(new: Object, old: Object | None, *names: str, within: str = "") -> Iterator[FieldError]:
    """Yields an error for each field that may not change after the object was made. `within` is the object that holds them, such as `spec`."""
    if old is None:
        return
    now, before = (new.get(within) or {}, old.get(within) or {}) if within else (new, old)
    for name in names:
        if now.get(name) != before.get(name):
            yield fields.invalid(f"{within}.{name}" if within else name, now.get(name), "field is immutable")
