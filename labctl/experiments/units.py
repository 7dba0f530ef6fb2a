"""Quantities as people write them in an experiment: `2s`, `500 ms`, `200/s`, `1 %`. ValueError says what to write instead."""

from __future__ import annotations

import re

TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
SHARES = {"%": 0.01}
_NUMBER = r"(\d{1,12}(?:\.\d{1,12})?)"
_QUANTITY = re.compile(rf"{_NUMBER}\s*([a-z%]{{0,3}})")
_RATE = re.compile(rf"{_NUMBER}\s*/\s*s")
MAX_SECONDS = 24 * 3600.0
MAX_RATE = 100_000


def seconds(text: str | int | float) -> float:
    """Return the seconds of a time such as `2s`, `500ms` or `5m`. A number without a unit is refused: nobody knows what it means."""
    number, unit = quantity(str(text))
    if unit not in TIMES:
        raise ValueError("write a time with its unit, such as 2s, 500ms or 5m")
    if number * TIMES[unit] > MAX_SECONDS:
        raise ValueError("write a time of at most 24h")
    return number * TIMES[unit]


def quantity(text: str) -> tuple[float, str]:
    """Return a number and the unit behind it, which may be empty."""
    match = _QUANTITY.fullmatch(text.strip())
    if not match:
        raise ValueError("write a number with its unit, such as 0.5 s")
    return float(match[1]), match[2]


def rate(text: str | int | float) -> float:
    """Return the requests of a rate such as `200/s`."""
    match = _RATE.fullmatch(str(text).strip())
    if not match:
        raise ValueError("write a rate such as 200/s")
    if not 0 < float(match[1]) <= MAX_RATE:
        raise ValueError(f"write a rate of more than 0/s and at most {MAX_RATE}/s")
    return float(match[1])
