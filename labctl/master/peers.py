"""Tells each node's agent who its peers are, and the key that it shares with each of them (`GET /labctl/v1/peers`).

Nodes hear each other's heartbeats (agent/peers.py), so that the master need not give a node up that only it does not hear (controllers/peers.py). The key
of a pair of nodes follows from a secret that only the master has. A node gets the keys of its own pairs, so it can't speak for others.
"""

from __future__ import annotations

import hmac
from typing import Any

from labctl import defaults
from labctl.api.extensions import ExtensionRequest
from labctl.controllers.indexes import NODES, READY
from labctl.controllers.peers import peers_of
from labctl.errors import ApiError
from labctl.reconcile.plan import View

PURPOSE = "heartbeats of peers"


class PeersRoute:
    """Answers agents. `secret` is the lab's own."""

    def __init__(self, view: View, timing: defaults.Timing, secret: bytes) -> None:
        self._view, self._timing, self._secret = view, timing, secret

    async def __call__(self, request: ExtensionRequest) -> dict[str, Any]:
        """Return the peers of the node that asks. Raises 403 for everybody who is no node."""
        name = request.user.node
        if not name:
            raise ApiError(403, "Forbidden", "only a node has peers")
        peers = [self._peer(name, other) for other in self._names(name)]
        return {"beatSeconds": self._timing.beat_s, "port": defaults.PEERS_PORT, "peers": [peer for peer in peers if peer["address"]]}

    def _names(self, name: str) -> list[str]:
        if not self._timing.peers:
            return []
        return peers_of(name, (node.metadata.name for node in self._view.by(NODES, "ready", READY)), self._timing.peers)

    def _peer(self, name: str, other: str) -> dict[str, str]:
        node = self._view.get(NODES, other)
        return {"name": other, "address": node.address("InternalIP"), "key": self._key(name, other)}

    def _key(self, one: str, other: str) -> str:
        return hmac.digest(self._secret, "/".join(sorted((one, other))).encode(), "sha256").hex()
