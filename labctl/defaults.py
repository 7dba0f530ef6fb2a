"""Defaults that several rooms share, said once: lab.yml's options (lab/settings.py) and each room's own settings read them from here."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

MACHINE_NETWORK = "10.245.1.0/24"  # the master has .1, minion-N .(10+N)
POD_RANGE = "10.246.0.0/16"  # pods of minion-N have N.0/24 of it
SERVICE_RANGE = "10.247.0.0/16"  # virtual addresses
CLUSTER_DOMAIN = "cluster.local"
DNS_PORT = 10053  # of each minion's DNS server; pods ask port 53 of its virtual address
DRAIN_S = 1.0  # how long an ending pod waits at most until every minion has let it go
BACKOFF_S = 10.0  # before a failed container is started again, the first time
PEERS_PORT = 10054  # UDP, of each minion's agent: there its peers tell that they live
MACHINE_PORTS = frozenset(
    (
        ("TCP", 22),
        ("TCP", 179),
        ("TCP", DNS_PORT),
        ("UDP", DNS_PORT),
        ("UDP", PEERS_PORT),
        ("UDP", 8472),
    )  # sshd, BGP, names, heartbeats, VXLAN
)
"""Ports at which a machine itself is spoken to. A pod that got one as its host port would be sent the master's connections, or another minion's."""


class Timing(NamedTuple):
    """How soon a silent node is given up (`labctl up --timing`; docs/timing.md says why these figures)."""

    lease_s: float  # how often an agent renews its lease
    grace_s: float  # a node that is silent for so long is Unknown, if its peers don't hear it either
    evict_s: float  # how long pods stay on a silent node
    rate: float  # nodes that may lose their pods for their silence, for each second and zone
    slow_rate: float  # ... in a large zone most of whose nodes are not well
    peers: int = 0  # how many other minions hear each minion; 0: its silence towards the master suffices
    beat_s: float = 0.2  # how often a minion tells its peers that it lives
    deaf_s: float = 1.4  # a peer that heard nothing for so long says that the node is silent


TIMINGS = {
    "kubernetes": Timing(lease_s=10.0, grace_s=40.0, evict_s=300.0, rate=0.1, slow_rate=0.01),
    "lab": Timing(lease_s=0.5, grace_s=2.0, evict_s=0.0, rate=1.0, slow_rate=0.1, peers=4),
}
TIMING = "kubernetes"
LEASE_S, GRACE_S, EVICT_S = TIMINGS[TIMING][:3]


def load_balancer_range(said: str, machines: str, provider: str) -> str:
    """Return the range of addresses of load balancers: what was set, else the last 32 of the machines' network; "" if they get none.

    Machines that exist already are in a network that is not the lab's, so there a range must be set.
    """
    if said or provider == "ssh":
        return "" if said == "none" else said
    network = ipaddress.IPv4Network(machines)
    if network.prefixlen > 24:
        return ""
    return f"{ipaddress.IPv4Address(int(network.broadcast_address) - 31)}/27"
