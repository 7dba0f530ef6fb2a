"""What the network may be told: its ranges and its times, with units."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkSettings:
    plugin: str = "route"
    pod_range: str = "10.246.0.0/16"  # all pods of the lab; what leaves it is masqueraded
    service_range: str = "10.247.0.0/16"
    link_mtu_bytes: int = 1500  # of the minions' own link
    call_s: float = 60.0  # deadline of one call to a minion's helper: starting a switch on an emulated machine takes its time
