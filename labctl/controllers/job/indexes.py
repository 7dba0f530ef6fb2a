"""Reads and writes completion indexes as a Job's status has them: `1,3-5,7`."""

from __future__ import annotations

from collections.abc import Iterable


def parse(text: str | None, most: int) -> set[int]:
    """Return the indexes below `most` in the text. What can't be read is left out."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, _, last = part.partition("-")
        if first.isascii() and first.isdigit() and (not last or (last.isascii() and last.isdigit())):
            found.update(range(int(first), min(int(last or first), most - 1) + 1))
    return found


def text(indexes: Iterable[int]) -> str:
    """Return the text. Three or more neighbours are joined by a dash, as in Kubernetes, and two by a comma."""
    parts: list[list[int]] = []
    for index in sorted(indexes):
        if parts and parts[-1][-1] == index - 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    return ",".join(_part(part) for part in parts)


def _part(part: list[int]) -> str:
    if len(part) == 1:
        return str(part[0])
    return f"{part[0]},{part[1]}" if len(part) == 2 else f"{part[0]}-{part[-1]}"
