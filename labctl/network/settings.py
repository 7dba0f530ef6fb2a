"""The settings of the pod network: its ranges and its times."""

from __future__ import annotations

from dataclasses import dataclass

from labctl import defaults


@dataclass(frozen=True)
class NetworkSettings:
    """The settings of the pod network."""

    plugin: str = "route"
    pod_range: str = defaults.POD_RANGE  # the range of all pods of the lab; packets that leave it are masqueraded
    service_range: str = defaults.SERVICE_RANGE
    link_mtu_bytes: int = 1500  # of the minions' own link
    call_s: float = 60.0  # the deadline of one call to a minion's helper; starting a switch on an emulated machine is slow
