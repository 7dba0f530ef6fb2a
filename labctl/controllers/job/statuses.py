"""What of a Job's status must be written: the fields that differ from what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from labctl.resources.kinds.batch_v1.job import Job

_SAID_WHEN_ZERO = {"ready", "terminating"}
"""Fields that are written even when they are 0; other zeros, and empty texts, are left out."""


def difference(job: Job, status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the status that must change."""
    now = msgspec.to_builtins(job.status)
    now["uncountedTerminatedPods"] = now["uncountedTerminatedPods"] or {"succeeded": [], "failed": []}

    def said(name: str, value: Any) -> Any:
        return value if name in _SAID_WHEN_ZERO else value or None

    return {
        name: said(name, value) for name, value in status.items() if said(name, now.get(name)) != said(name, value) or name == "conditions"
    }
