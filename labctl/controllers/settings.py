"""The settings of controllers, with units. Defaults are Kubernetes' own where it has them."""

from __future__ import annotations

from dataclasses import dataclass

from labctl import defaults


@dataclass(frozen=True)
class ControllerSettings:
    """The settings of controllers."""

    lease_s: float = defaults.LEASE_S  # how often agents renew their leases
    lease_grace_s: float = defaults.GRACE_S  # after this long without a report, a node is Unknown
    peers: int = 0  # how many other nodes hear each node and are asked before it is Unknown; 0: nobody is asked
    peers_deaf_s: float = 1.4  # a peer that heard nothing for so long says that the node is silent
    peers_fresh_s: float = 1.25  # what a peer said longer ago counts no more
    unconfirmed_grace_s: float = 40.0  # a node that only the master does not hear is Unknown after this long,
    unconfirmed_eviction_s: float = 300.0  # ... and loses its pods after this much more
    eviction_rate: float = 0.1  # nodes that may lose their pods for their silence, for each second and zone
    eviction_slow_rate: float = 0.01  # ... in a large zone where too many are not well; in a small one none may then
    unwell_share: float = 0.55  # this share of a zone's nodes, and more than two, is too many
    large_zone: int = 50  # a zone of more nodes is large
    ends_together_s: float = (
        0.1  # machines that end within this time count as ended together; only after it is known which nodes can take their pods
    )
    boot_s: float = 180.0  # pods that nobody could take when their machine ended wait for it at most so long while it boots
    eviction_s: float = defaults.EVICT_S  # how long pods without a toleration of their own stay on a node that is not ready or unreachable
    burst: int = 100  # the most pods that one plan of a replication controller creates or deletes; they take a few ms
    slow_start: int = 8  # ... and creates while none of its pods exists; after that, as many as exist
    endpoints_per_slice: int = 100
    finished_pods: int = 12_500  # how many finished pods are kept
    gone_node_s: float = 40.0  # pods of a node whose object is gone are removed after this
    event_ttl_s: float = 3600.0
    sweep_s: float = 30.0  # how often what merely expires is looked at
    job_backoff_s: float = 10.0  # how long a Job waits after its first failed pod; twice as long after each further one
    job_backoff_max_s: float = 600.0  # ... and never longer
    load_balancers: str = ""  # the range of addresses for Services of type LoadBalancer; empty: they get none
    root_certificate: str = ""  # the lab's CA in PEM, which each namespace has a ConfigMap of; empty: none has
