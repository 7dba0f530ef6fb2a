"""What the runner may be told: bounds and times, with their units."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReconcileSettings:
    actions_at_once: int = 48  # writes under way, over all controllers: one commit group stays small enough for the API's tail latency
    plans_at_once: int = 128  # plans being carried out, over all controllers
    slice_s: float = 0.001  # planning goes on for so long before the loop may serve others
    backoff_min_s: float = 0.05  # after a failed plan; doubles each time
    backoff_max_s: float = 30.0
    tick_s: float = 1.0  # at least so often the clock is looked at
    jump_s: float = 3.0  # a tick that is late by more, or a wall clock that ran away by more, is a jump: grace periods begin anew
    events_keep: int = 10_000  # Events waiting to be written; the oldest go first when there are more
    events_delay_s: float = 1.0  # Events wait so long for a quiet moment, behind what they tell of
    whys_keep: int = 20_000  # last sentences kept for `labctl why`
    stop_s: float = 5.0  # on stop, writes under way may take so long
