"""The settings of simulated nodes and scenarios, with units."""

from __future__ import annotations

from dataclasses import dataclass

from labctl import defaults


@dataclass(frozen=True)
class HollowSettings:
    """The settings of hollow nodes."""

    lease_s: float = 10.0  # how often the lease is renewed
    start_s: tuple[float, float] = (0.02, 0.5)  # from seeing a pod to running it
    stop_s: tuple[float, float] = (0.02, 1.0)  # from seeing its deletion to its end
    retry_s: float = 1.0  # the pause after a failed write
    told_s: tuple[float, float] = (0.01, 3.0)  # from a machine's end or start to the provider's report
    noticed_s: tuple[float, float] = (0.002, 0.02)  # from a container's end to its agent's report
    peers: int = 0  # how many other nodes hear each node
    container_statuses: bool = (
        False  # whether a pod's status tells of each container: clients look at that, large simulations do not need it
    )
    cpu: str = "4"
    memory: str = "8Gi"
    pods: int = 110


LAB_NODES = HollowSettings(lease_s=defaults.TIMINGS["lab"].lease_s, peers=defaults.TIMINGS["lab"].peers)
"""Nodes with the timing of a lab."""


PARTITIONS = ("partition", "partition", "cut", "heal-links", "scale")
"""The deeds of a run in which only links break."""


@dataclass(frozen=True)
class ScenarioSettings:
    """The settings of a scenario."""

    nodes: int = 5
    steps: int = 40
    step_s: tuple[float, float] = (0.1, 20.0)  # between two things that happen
    calm_s: float = 900.0  # after the repair, the wanted state must be reached within this time
    store_fail: float = 0.2  # share of commits that fail while the store is ill
    store_delay_s: float = 0.2
    proxies: int = 2  # minions whose rules the proxy's compiler writes
    lab_timing: bool = False  # nodes with the timing of a lab, which hear each other
    what: tuple[str, ...] = ()  # the deeds that may happen (script.py); empty: all


@dataclass(frozen=True)
class ScaleSettings:
    """The settings of a simulation of a large lab."""

    nodes: int = 5000
    pods: int = 150_000
    replicas: int = 100  # of each Deployment, which has one Service
    within_s: float = 3600.0  # virtual: each part of the story must end in this time
