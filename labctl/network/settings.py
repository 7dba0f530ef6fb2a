"""What the network may be told: its ranges and its times, with units."""

from __future__ import annotations

from dataclasses import dataclass

from labctl import defaults


@dataclass(frozen=True)
class NetworkSettings:
    plugin: str = "route"
    pod_range: str = defaults.POD_RANGE  # all pods of the lab; what leaves it is masqueraded
    service_range: str = defaults.SERVICE_RANGE
    link_mtu_bytes: int = 1500  # of the minions' own link
    call_s: float = 60.0  # deadline of one call to a minion's helper: starting a switch on an emulated machine takes its time
