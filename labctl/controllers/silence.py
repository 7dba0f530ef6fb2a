"""When a silent node is given up.

A node is silent while its lease is not renewed and its agent reports nothing. With Kubernetes' timing it is given up after the grace period. With the
timing of a lab the grace period is short, so the master asks the node's peers too (peers.py), and there are three answers:

    the master hears it                                      it is well
    neither the master nor most of its peers hear it         it is given up: Unknown, its pods leave the endpoints and are evicted
    its peers hear it, or there is nobody to ask             nothing happens for Kubernetes' grace period (40 s), for its pods run and can be reached;
                                                             then it is Unknown and its pods leave the endpoints, as nobody knows any longer whether
                                                             they are ready; they are evicted when Kubernetes' 300 s are over as well

The age of a lease counts from when this process saw it change, so a restart of the master or a jump of the clock makes no node seem silent.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from labctl.controllers.indexes import LEASES, NODES
from labctl.controllers.peers import LEASE_NAMESPACE, Peers
from labctl.controllers.settings import ControllerSettings
from labctl.reconcile.plan import View
from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.kinds.shared import condition

ASK_AGAIN_S = 0.2  # how often the peers are asked about a node that only the master does not hear


class Judgement(msgspec.Struct, frozen=True):
    """What the silence of a node means. `again_s` is when it may mean something else."""

    given_up: bool
    evicted: bool = False  # its pods may move to other nodes
    again_s: float = 0.0
    why: str = ""


class Silence:
    """Judges how silent nodes are, by the rules that the module's docstring lists."""

    def __init__(self, settings: ControllerSettings) -> None:
        self._settings = settings
        self._peers = Peers(settings.peers, settings.peers_deaf_s, settings.peers_fresh_s)
        self.suspect_s = max(settings.lease_grace_s / 2, settings.lease_grace_s - 1.5 * settings.lease_s)

    def judge(self, view: View, name: str, now: float) -> Judgement:
        """Say whether the node is given up, and why."""
        settings = self._settings
        silent_s = now - heard(view, name)
        if silent_s < settings.lease_grace_s:
            return Judgement(False, again_s=settings.lease_grace_s - silent_s)
        if not settings.peers:
            return Judgement(True, True, why="its lease has not been renewed for the grace period")
        votes = self._peers.votes(view, name, now)
        if sum(votes) * 2 > len(votes):
            return Judgement(True, True, why=f"{sum(votes)} of {len(votes)} peers do not hear it either")
        why = f"{len(votes) - sum(votes)} of {len(votes)} peers hear it" if votes else "no peer can be asked"
        if silent_s < settings.unconfirmed_grace_s:
            return Judgement(False, again_s=ASK_AGAIN_S, why=why)
        evicted = silent_s >= settings.unconfirmed_grace_s + settings.unconfirmed_eviction_s
        return Judgement(True, evicted, ASK_AGAIN_S, f"only the master does not hear it: {why}")

    def is_suspect(self, view: View, name: str, now: float) -> bool:
        """Tell whether the node missed a renewal. Of nodes that fall silent at one moment, the first is given up while the others are suspects."""
        return now - heard(view, name) > self.suspect_s


def report(node: Node) -> Iterable[str]:
    """Return what its agent last reported; a new value is a sign of life, as a renewed lease is. "Unknown" is written by the node controller,
    not by the agent.
    """
    ready = condition(node.status.conditions, "Ready")
    said = f"{ready.status}@{ready.last_heartbeat_time}" if ready and ready.status != "Unknown" else ""
    return (f"{node.status.node_info.boot_id}:{said}",)


def born(node: Node) -> Iterable[str]:
    """Return a value that is the same as long as it is this Node, and not a later one of the same name."""
    return (node.metadata.uid,)


def heard(view: View, name: str) -> float:
    """Return when this process saw the node's last sign of life: it registered, reported its status, or renewed its lease.

    A node without a lease is silent: what others, such as the node controller, write into its object is no sign of life.
    """
    lease, node = f"{LEASE_NAMESPACE}/{name}", view.get(NODES, name)
    signs = [view.since(NODES, "born", node.metadata.uid, name)]
    (said,) = report(node)
    if not said.endswith(":"):
        signs.append(view.since(NODES, "report", said, name))
    if view.get(LEASES, lease):
        signs.append(view.seen(LEASES, lease))
    return max(signs)
