"""The settings of machines and of joining."""

from __future__ import annotations

from dataclasses import dataclass

from labctl import defaults


@dataclass(frozen=True)
class MachinesSettings:
    """The settings of machines and of joining."""

    machine_network: str = defaults.MACHINE_NETWORK  # minion-N is .(10+N)
    pod_network: str = defaults.POD_RANGE  # pods of minion-N are N.0/24 in it
    threads: int = 32  # the most provider calls at the same time
    join_deadline_s: float = 20.0  # one command of a join
    retry_first_s: float = 0.1  # the pause after a failed join; it doubles each time,
    retry_max_s: float = 5.0  # up to this
    halt_grace_s: float = 10.0
    lease_s: float = defaults.LEASE_S  # how often an agent renews its lease
    grace_s: float = defaults.GRACE_S  # how long a lease is valid
    peers: bool = False  # whether minions hear each other's heartbeats
    drain_s: float = defaults.DRAIN_S  # an ending pod waits at most so long until no minion sends it new connections
    backoff_s: float = defaults.BACKOFF_S  # the first pause before a failed container is started again; it doubles
    pod_mtu_bytes: int = 1500  # what the pod network's own headers leave
    programs: tuple[str, ...] = ()  # programs that a machine needs besides those that every minion needs
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = defaults.CLUSTER_DOMAIN


@dataclass(frozen=True)
class LabFacts:
    """What a machine must know about its lab. `url` is the master's as machines reach it."""

    url: str
    key_path: str  # the lab's private SSH key
    authorized_key: str  # its public half, one line
    relay_address: str = ""  # where pods reach the master on each machine, if machines reach it only through a tunnel
