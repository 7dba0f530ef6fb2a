"""A request of the master's, checked: every value has its form and its bounds before anything looks at it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict

from ..helper import check
from ..settings import Settings

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_UID = re.compile(r"[-A-Za-z0-9]{1,64}")
_ID = re.compile(r"[0-9a-f]{64}|")
DURATION_S_MAX = 366 * 86_400.0


@dataclass(frozen=True)
class Request:
    """`fault` is the fault's name; `parameters` are checked by the type's own functions. `for_s` is 0 for a fault without an end."""

    type: str
    do: str
    fault: str
    settings: Settings
    parameters: Dict[str, Any]
    for_s: float = 0.0

    def name(self, key: str) -> str:
        return matching(self.parameters.get(key), _NAME, key)

    def uid(self) -> str:
        return matching(self.parameters.get("uid"), _UID, "uid")

    def container_id(self) -> str:
        """Return the id of the container that is meant, or an empty text for the one that runs."""
        return matching(self.parameters.get("id", ""), _ID, "container id")

    def number(self, key: str, least: float, most: float) -> float:
        return bounded(self.parameters.get(key), key, least, most)


def bounded(value: Any, what: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise check.Refused(f"{what} {value!r} is not between {least:g} and {most:g}")
    return float(value)


def matching(value: Any, pattern: "re.Pattern[str]", what: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise check.Refused(f"{value!r} is no {what}")
    return value


def parse(told: Any, settings: Settings) -> Request:
    if not isinstance(told, dict) or not isinstance(told.get("parameters", {}), dict):
        raise check.Refused("a request is an object")
    fault = matching(told.get("fault"), _NAME, "name of a fault")
    for_s = bounded(told.get("forSeconds", 0), "forSeconds", 0, DURATION_S_MAX)
    return Request(str(told.get("type")), str(told.get("do")), fault, settings, told.get("parameters", {}), for_s)
