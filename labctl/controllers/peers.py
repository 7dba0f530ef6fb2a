"""What nodes say of each other: each node hears the heartbeats of a few others, its peers, and reports with its lease how long each was silent.

The master asks the peers before it believes that a node that it does not hear is silent: a master that is cut off hears nobody, so it has nobody to ask.
Nothing that a node says is enough by itself. It counts only about the nodes whose peer it is, only while the master hears it, only as one vote of
several, and only about a node that the master does not hear either. So a hostile minion can neither have others given up, nor keep them for ever:
Kubernetes' slow rule needs no peers (silence.py).

Peers are the neighbours on a ring of all ready nodes, in the order of a hash of their names, so that minions that are likely to fail together (by number)
are seldom each other's. The master computes them here, both for the agents (`/labctl/v1/peers`) and for its own questions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b

from labctl.controllers.indexes import LEASES, NODES, READY
from labctl.reconcile.plan import View
from labctl.resources.kinds.coordination_v1.lease import HEARD, HEARD_MAX

LEASE_NAMESPACE = "kube-node-lease"
PEERS_MAX = 8  # a node may have so many peers


def peers_of(name: str, others: Iterable[str], count: int) -> list[str]:
    """Return the names of a node's peers: the next ones on both sides of the ring that it forms with the others."""
    ring = sorted({*others, name}, key=_place)
    at = ring.index(name)
    steps = [step for distance in range(1, count // 2 + 1) for step in (distance, -distance)]
    found = dict.fromkeys(ring[(at + step) % len(ring)] for step in steps)
    found.pop(name, None)
    return list(found)


@lru_cache(maxsize=16_384)
def _place(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=8).digest()


def read_heard(text: str) -> dict[str, float]:
    """Parse the annotation. What is too long, no number, negative or not finite is passed over: a node writes it."""
    heard: dict[str, float] = {}
    for word in text[:HEARD_MAX].split()[:PEERS_MAX]:
        name, _, seconds = word.partition("=")
        try:
            value = float(seconds)
        except ValueError:
            continue
        if name and math.isfinite(value) and value >= 0:
            heard[name] = value
    return heard


class Peers:
    """Asks a node's peers. The ring is kept for the moment of one `now`, because many nodes may fall silent at once."""

    def __init__(self, count: int, deaf_s: float, fresh_s: float) -> None:
        self._count, self._deaf_s, self._fresh_s = count, deaf_s, fresh_s
        self._ring: tuple[int, list[str]] = (-1, [])

    def votes(self, view: View, name: str, now: float) -> Sequence[bool]:
        """Return, for each peer that the master hears, whether the node was silent to it too."""
        said = (self._silent_to(view, peer, name, now) for peer in peers_of(name, self._ready(view), self._count))
        return [vote for vote in said if vote is not None]

    def _ready(self, view: View) -> list[str]:
        if self._ring[0] != view.revision:
            self._ring = (view.revision, [node.metadata.name for node in view.by(NODES, "ready", READY)])
        return self._ring[1]

    def _silent_to(self, view: View, peer: str, name: str, now: float) -> bool | None:
        """Return whether a peer says that the node is silent; None if it says nothing, or said it before this process began or too long ago."""
        lease = view.get(LEASES, f"{LEASE_NAMESPACE}/{peer}")
        if lease is None or lease.metadata.revision <= view.begun:
            return None
        if now - view.seen(LEASES, lease.metadata.key) > self._fresh_s:
            return None
        seconds = read_heard(lease.metadata.annotations.get(HEARD, "")).get(name)
        return None if seconds is None else seconds >= self._deaf_s
