"""What simulated nodes and scenarios may be told, with units."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HollowSettings:
    lease_s: float = 10.0  # renewal, as an agent does it
    start_s: tuple[float, float] = (0.02, 0.5)  # from seeing a pod to running it
    stop_s: tuple[float, float] = (0.02, 1.0)  # from seeing that it leaves to its end
    retry_s: float = 1.0  # after a write that failed
    told_s: tuple[float, float] = (0.01, 3.0)  # from a machine's end or beginning to the provider's word
    cpu: str = "4"
    memory: str = "8Gi"
    pods: int = 110


@dataclass(frozen=True)
class ScenarioSettings:
    nodes: int = 5
    steps: int = 40
    step_s: tuple[float, float] = (0.1, 20.0)  # between two things that happen
    calm_s: float = 900.0  # after healing, everything must be true within this
    store_fail: float = 0.2  # share of commits that fail while the store is ill
    store_delay_s: float = 0.2
