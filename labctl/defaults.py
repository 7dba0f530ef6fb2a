"""Defaults that several rooms share, said once: lab.yml's options (lab/settings.py) and each room's own settings read them from here."""

from __future__ import annotations

MACHINE_NETWORK = "10.245.1.0/24"  # the master has .1, minion-N .(10+N)
POD_RANGE = "10.246.0.0/16"  # pods of minion-N have N.0/24 of it
SERVICE_RANGE = "10.247.0.0/16"  # virtual addresses
CLUSTER_DOMAIN = "cluster.local"
DNS_PORT = 10053  # of each minion's DNS server; pods ask port 53 of its virtual address
LEASE_S = 10.0  # how often an agent renews its lease
GRACE_S = 40.0  # a node that is silent for so long is Unknown
EVICT_S = 300.0  # how long pods stay on a silent node
DRAIN_S = 1.0  # how long an ending pod waits at most until every minion has let it go
BACKOFF_S = 10.0  # before a failed container is started again, the first time
