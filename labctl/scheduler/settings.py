"""What the scheduler may be told, with units."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SchedulerSettings:
    name: str = "default-scheduler"  # it places pods whose schedulerName is this or empty
    enough_nodes: int = 100  # of many nodes that fit, it compares so many and looks no further
    backoff_min_s: float = 0.25  # before a pod that fitted nowhere is tried again, even if something changed; doubles
    backoff_max_s: float = 10.0
    flush_s: float = 300.0  # it is tried again after this though nothing changed
