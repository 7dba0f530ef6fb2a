"""This module formats cells of kubectl's tables (ages, names, missing values) for the columns of several kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from labctl.clock import parse_rfc3339
from labctl.resources.kind import Column

NONE = "<none>"
UNKNOWN = "<unknown>"


def duration(seconds: float) -> str:
    """Formats a duration as apimachinery's duration.HumanDuration: in at most two units, and in coarser ones the longer it is."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    minutes, hours = whole // 60, whole // 3600
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 24 * 8:
        return _two(hours // 24, "d", hours % 24, "h")
    if hours < 24 * 365 * 2:
        return f"{hours // 24}d"
    if hours < 24 * 365 * 8:
        return _two(hours // 24 // 365, "y", hours // 24 % 365, "d")
    return f"{hours // 24 // 365}y"


def _two(big: int, big_unit: str, small: int, small_unit: str) -> str:
    return f"{big}{big_unit}{small}{small_unit}" if small else f"{big}{big_unit}"


def since(timestamp: str | None, now_s: float) -> str:
    """Formats the age of an RFC 3339 time."""
    return duration(now_s - parse_rfc3339(timestamp)) if timestamp else UNKNOWN


def pairs(labels: Mapping[str, str]) -> str:
    """Formats labels as `a=1,b=2`, or `<none>`."""
    return ",".join(f"{k}={v}" for k, v in sorted(labels.items())) or NONE


def joined(items: Iterable[Any]) -> str:
    return ",".join(str(i) for i in items)


def first_three(items: Sequence[str]) -> str:
    """Formats a list as `a,b,c + 2 more...`."""
    shown = joined(items[:3])
    return f"{shown} + {len(items) - 3} more..." if len(items) > 3 else shown


NAME = Column("Name", lambda v, _now: v.metadata.name, format="name", description="Name must be unique within a namespace.")
AGE = Column("Age", lambda v, now: since(v.metadata.creation_timestamp, now), description="Time since the object was created.")
