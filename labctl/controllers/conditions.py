"""Writes conditions for controllers. They are always written as a whole list, because a merge patch replaces whole lists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from labctl.clock import rfc3339


def plain(view: Any) -> dict[str, Any]:
    """Return a small view as JSON, without empty fields."""
    return {key: value for key, value in msgspec.to_builtins(view).items() if value not in ("", None)}


def with_condition(conditions: Iterable[Any], type_: str, status: str, reason: str, message: str, wall_s: float) -> list[dict[str, Any]]:
    """Return the same list with one condition set. Its lastTransitionTime changes only if its status does."""
    new = {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": rfc3339(wall_s)}
    if not message:
        del new["message"]
    listed = [plain(condition) for condition in conditions]
    for at, old in enumerate(listed):
        if old["type"] == type_:
            if old.get("status") == status:
                new["lastTransitionTime"] = old.get("lastTransitionTime") or new["lastTransitionTime"]
            listed[at] = {**old, **new}
            return listed
    return [*listed, new]
