"""What can be set about machines and joining."""

from __future__ import annotations

from dataclasses import dataclass

from labctl import defaults


@dataclass(frozen=True)
class MachinesSettings:
    machine_network: str = defaults.MACHINE_NETWORK  # minion-N is .(10+N)
    pod_network: str = defaults.POD_RANGE  # pods of minion-N are N.0/24 in it
    threads: int = 32  # provider calls at once
    join_deadline_s: float = 20.0  # one command of a join
    retry_first_s: float = 0.1  # after a join that failed, then twice as long,
    retry_most_s: float = 5.0  # up to this
    halt_grace_s: float = 10.0
    lease_s: float = defaults.LEASE_S  # how often an agent renews its lease
    grace_s: float = defaults.GRACE_S  # how long a lease holds
    drain_s: float = defaults.DRAIN_S  # an ending pod waits at most so long until every minion has let it go
    backoff_s: float = defaults.BACKOFF_S  # before a container that failed is started again; doubles
    pod_mtu_bytes: int = 1500  # as the pod network leaves it
    programs: tuple[str, ...] = ()  # that a machine must have besides those that every minion needs
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = defaults.CLUSTER_DOMAIN


@dataclass(frozen=True)
class LabFacts:
    """What a machine is told about its lab. `url` is the master's as the machines call it."""

    url: str
    key_path: str  # the lab's private SSH key
    authorized_key: str  # its public half, one line
    relay_address: str = ""  # where pods find the master on each machine; only where machines come to it through a tunnel
