"""What the proxy may be told: ranges, the mark it uses, and its times, with units."""

from __future__ import annotations

from dataclasses import dataclass

from labctl import defaults


@dataclass(frozen=True)
class ProxySettings:
    mode: str = "iptables"  # or "userspace": through a forwarder process on each minion
    flavour: str = "auto"  # of iptables on the minions: auto is what the machine's own `iptables` is; nft, legacy
    pod_range: str = (
        defaults.POD_RANGE
    )  # sources outside it are masqueraded, so that answers come back through the minion that chose the pod
    service_range: str = defaults.SERVICE_RANGE  # an address in it that no Service port owns is refused at once, instead of waited for
    mark: int = 0x2000  # the packet mark bit that asks for masquerade
    local_port_first: int = 20_000  # userspace mode draws from here: below NodePorts (30000-32767) and ephemeral ports (32768-60999)
    local_port_last: int = 29_999
    call_s: float = 30.0  # deadline of one call to a minion's helper
    again_s: float = 0.002  # until a pod's condition is written again, if another write came first; doubled each time
    again_most_s: float = 2.0
