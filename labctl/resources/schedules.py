"""This module reads a CronJob's schedule: five fields, a macro such as `@hourly`, or `@every 1h30m`. The library cronsim calculates the times."""

from __future__ import annotations

import re
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


class Schedule:
    """The times that a cron expression names. Raises ValueError for an invalid expression, and for one that names no time."""

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
        self._fields = _MACROS.get(text, text).replace("?", "*")
        parts = self._fields.split()
        if len(parts) != 5:
            raise ValueError(f"expected exactly 5 fields, found {len(parts)}: [{' '.join(parts)}]")
        self.next_after(0.0)  # so that cronsim checks the fields now

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
            raise ValueError(str(error)) from None
        except StopIteration:
            return None
