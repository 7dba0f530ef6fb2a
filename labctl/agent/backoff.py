"""Whether a container is started again, and how long it waits before. Pure: what is needed lies in the record of the last attempt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

RESTART, RESTART_ALL = "Restart", "RestartAllContainers"
"""What a rule may ask for: that the container begins again, or all of its pod (restarting.py)."""


@dataclass(frozen=True)
class Backoff:
    """The first restart is at once, the second after `first_s`, then doubling to `most_s`; a run of `reset_s` starts anew."""

    first_s: float = 10.0
    most_s: float = 300.0
    reset_s: float = 600.0

    def after(self, attempt: int, kept_s: float, ran_s: float) -> float:
        """Return the wait after attempt number `attempt` (from 0), before which the wait was `kept_s`, and which ran for `ran_s`. All in seconds."""
        if attempt == 0 or ran_s >= self.reset_s:
            return 0.0
        return min(self.most_s, kept_s * 2) if kept_s else self.first_s


def should_restart(policy: str, exit_code: int) -> bool:
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def matches(rule: Mapping[str, Any], exit_code: int) -> bool:
    """Tell whether a rule of `restartPolicyRules` (KEP-5307) is about a container that ended so."""
    said = rule.get("exitCodes") or {}
    listed = exit_code in (said.get("values") or ())
    known = rule.get("action") in (RESTART, RESTART_ALL)
    return known and (listed if said.get("operator") == "In" else said.get("operator") == "NotIn" and not listed)
