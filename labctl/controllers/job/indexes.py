"""Reads and writes completion indexes as a Job's status has them: `1,3-5,7`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain, islice

MOST_EXPANDED = 1_000_000
"""A status never has more indexes than pods have ended; what somebody writes may say `0-2147483646` in a few characters."""

_PART = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?")


def spans(text: str | None, most: int) -> list[range]:
    """Return the indexes below `most` in the text, as ranges in order that don't overlap. What can't be read is left out."""
    found = sorted((int(part[1]), min(int(part[2] or part[1]), most - 1)) for part in map(_PART.fullmatch, (text or "").split(",")) if part)
    joined: list[range] = []
    for first, last in found:
        start = max(first, joined[-1].stop) if joined else first
        if start <= last:
            joined.append(range(start, last + 1))
    return joined


def parse(text: str | None, most: int) -> set[int]:
    """Return the indexes below `most` in the text, one by one. What can't be read is left out, and what is beyond MOST_EXPANDED."""
    return set(islice(chain.from_iterable(spans(text, most)), MOST_EXPANDED))


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
