"""One step of an experiment's timeline, as it was read from the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step. `fault` or `action` is its type; `target` and `peer` are as written, and chosen in each repetition."""

    name: str
    field: str  # where it stands in the file: timeline[0]
    at_s: float
    fault: str = ""
    action: str = ""
    target: str = ""
    peer: str = ""
    direction: str = ""
    parameters: Mapping[str, str] = {}
    duration: str = ""
    replicas: int = 0
    manifests: tuple[Mapping[str, Any], ...] = ()
