"""This module reads a CronJob's schedule: five fields, a macro such as `@hourly`, or `@every 1h30m`. The library cronsim calculates the times."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EVERY = re.compile(r"@every ((?:\d{1,9}(?:\.\d{1,9})?(?:h|m|s|ms))+)", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)", re.ASCII)
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_MAX_CHARACTERS = 256
_MONTHS = {name: number for number, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_DAYS = {name: number for number, name in enumerate("sun mon tue wed thu fri sat".split())}
_BOUNDS: tuple[tuple[int, int, Mapping[str, int]], ...] = ((0, 59, {}), (0, 23, {}), (1, 31, {}), (1, 12, _MONTHS), (0, 6, _DAYS))
"""Least, most and names of minutes, hours, days of the month, months, and days of the week, of which 7 is none."""


def refuse_unusual(text: str) -> None:
    """Raises ValueError for a schedule that Kubernetes would not read. The library that is used here knows more: L, W, #, 7 for a Sunday."""
    if not text.startswith("@"):
        for part, bounds in zip(text.split(), _BOUNDS, strict=False):
            for item in filter(None, part.split(",")):
                _check(item, *bounds)


def _check(item: str, least: int, most: int, names: Mapping[str, int]) -> None:
    """Raises ValueError if Kubernetes' library would not read this number, range or step."""
    span, *steps = item.split("/")
    low, *high = span.split("-")
    if low in ("*", "?"):
        first, last = least, most
    else:
        first = _number(low, names)
        last = _number(high[0], names) if high else first
        if len(high) > 1:
            raise ValueError(f"too many hyphens: {item}")
    if len(steps) > 1:
        raise ValueError(f"too many slashes: {item}")
    step = _number(steps[0], {}) if steps else 1
    if steps and not high:
        last = most
    if first < least:
        raise ValueError(f"beginning of range ({first}) below minimum ({least}): {item}")
    if last > most:
        raise ValueError(f"end of range ({last}) above maximum ({most}): {item}")
    if first > last:
        raise ValueError(f"beginning of range ({first}) beyond end of range ({last}): {item}")
    if step == 0:
        raise ValueError(f"step of range should be a positive number: {item}")


def _number(text: str, names: Mapping[str, int]) -> int:
    known = names.get(text.lower())
    if known is not None:
        return known
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    return int(text)


class Schedule:
    """The times that a cron expression names. Raises ValueError for an invalid expression."""

    def __init__(self, text: str) -> None:
        if len(text) > _MAX_CHARACTERS:
            raise ValueError(f"may not be longer than {_MAX_CHARACTERS} characters")
        self._every_s = 0.0
        self._fields = ""
        every = _EVERY.fullmatch(text)
        if every:
            self._every_s = max(1.0, float(int(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(every[1])))))
            return
        if text.startswith("@") and text not in _MACROS:
            raise ValueError(f"unrecognized descriptor: {text}")
        parts = _MACROS.get(text, text).split()
        if len(parts) != 5:
            raise ValueError(f"expected exactly 5 fields, found {len(parts)}: [{' '.join(parts)}]")
        self._fields = " ".join(",".join(filter(None, part.split(","))) or "*" for part in parts).replace("?", "*")
        self.next_after(0.0)  # so that cronsim reads the fields now

    def next_after(self, wall_s: float, zone: str = "", begun_s: float = 0.0) -> float | None:
        """Returns the first time after `wall_s`, in seconds since the epoch; `@every` counts from `begun_s`. None means that there is none."""
        if self._every_s:
            return begun_s + ((wall_s - begun_s) // self._every_s + 1) * self._every_s
        return self._first(wall_s, zone, reverse=False)

    def last_until(self, wall_s: float, zone: str = "", begun_s: float = 0.0) -> float | None:
        """Returns the last time that is not after `wall_s` but after `begun_s`; None if there is none."""
        if self._every_s:
            steps = (wall_s - begun_s) // self._every_s
            return begun_s + steps * self._every_s if steps >= 1 else None
        found = self._first(float(int(wall_s)) + 1.0, zone, reverse=True)
        return found if found is not None and found > begun_s else None

    def _first(self, wall_s: float, zone: str, *, reverse: bool) -> float | None:
        from cronsim import CronSim, CronSimError  # imported here, because only labs with a CronJob need it

        where: tzinfo = ZoneInfo(zone) if zone else UTC
        try:
            return next(CronSim(self._fields, datetime.fromtimestamp(wall_s, where), reverse)).timestamp()
        except CronSimError as error:
            if str(error) == "Bad day-of-month":
                return None  # the month has no such day, as in `0 0 31 2 *`: each day by itself was found right before
            raise ValueError(str(error)) from None
        except StopIteration:
            return None
