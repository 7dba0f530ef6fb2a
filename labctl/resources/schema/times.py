"""This module parses Kubernetes' two types of time: metav1.Time (whole seconds) and metav1.MicroTime. Both are RFC 3339 and stored in UTC.

Parsed when a body is decoded; errors are ValueErrors with the words of Go's time.Parse.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from labctl.resources.cached import cached_if_short

_STORED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_LAYOUT = {"time": "2006-01-02T15:04:05Z07:00", "micro-time": "2006-01-02T15:04:05.000000Z07:00"}
_PIECES = (
    ("2006", r"\d{4}"), ("-", "-"), ("01", r"\d\d"), ("-", "-"), ("02", r"\d\d"), ("T", "T"),
    ("15", r"\d\d?"), (":", ":"), ("04", r"\d\d"), (":", ":"), ("05", r"\d\d(?:[.,]\d+)?"), ("Z07:00", r"Z|[+-]\d\d:\d\d"),
)  # fmt: skip


@cached_if_short(4096)
def canonical(text: str, shape: str) -> str:
    """Returns a time in its stored form. Raises ValueError in Go's words."""
    if shape == "time" and _STORED.fullmatch(text):
        _parse(text, text)
        return text
    _check_layout(text, _LAYOUT[shape])
    moment = _in_utc(text, _parse(text, text.replace(",", ".")))
    return moment.isoformat(timespec="seconds" if shape == "time" else "microseconds") + "Z"


def _check_layout(text: str, layout: str) -> None:
    rest = text
    for piece, pattern in _PIECES:
        match = re.match(pattern, rest, re.ASCII)
        if match is None:
            raise ValueError(f'parsing time "{text}" as "{layout}": cannot parse "{rest}" as "{piece}"')
        rest = rest[match.end() :]
    if rest:
        raise ValueError(f'parsing time "{text}": extra text: "{rest}"')


def _in_utc(text: str, moment: datetime) -> datetime:
    """Converts a time to UTC and drops the zone, so that it is printed without one."""
    try:
        return moment.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:  # in UTC its year would be outside of 1 to 9999
        raise ValueError(f'parsing time "{text}": year out of range') from None


def _parse(text: str, iso: str) -> datetime:
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", iso))
    except ValueError as error:
        part = next((part for part in ("month", "day", "hour", "minute", "second") if part in str(error)), "day")
        raise ValueError(f'parsing time "{text}": {part} out of range') from None
