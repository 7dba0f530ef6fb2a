"""The settings of the names and of the servers that answer them."""

from __future__ import annotations

from dataclasses import dataclass

from labctl import defaults


@dataclass(frozen=True)
class DnsSettings:
    domain: str = defaults.CLUSTER_DOMAIN
    server: str = "10.247.0.10"  # what pods ask: the virtual address of Service kube-dns
    port: int = defaults.DNS_PORT  # where each minion's server listens
    pod_range: str = defaults.POD_RANGE
    service_range: str = defaults.SERVICE_RANGE
    machines_ask: bool = True  # the minions' own resolv.conf names the server; False leaves people's own machines as they are
    call_s: float = 30.0  # deadline of one call to a minion's helper
