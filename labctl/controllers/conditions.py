"""Conditions as controllers write them: the list in full, because a merge patch replaces lists whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from labctl.clock import rfc3339


def plain(view: Any) -> dict[str, Any]:
    """A small view as JSON. Empty fields are left out."""
    return {key: value for key, value in msgspec.to_builtins(view).items() if value not in ("", None)}


def with_condition(conditions: Iterable[Any], type_: str, status: str, reason: str, message: str, wall_s: float) -> list[dict[str, Any]]:
    """The same list with one condition set; its lastTransitionTime moves only if its status does."""
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
