"""Which connections a minion forgets after its rules changed. The kernel keeps each connection on the way it first took, so new rules don't move it.

A minion calls this after every change of its rules; the helper carries the answer out (agent/helper/conntrack.py). The rules, as Kubernetes has them:

1. UDP has no end. An entry to a Service's virtual IP, external address or node port, or to a pod's host port, goes when its answers come from an
   address that serves this port no longer. So entries go when an endpoint has ended, when a Service or one of its ports is deleted, and when the
   first endpoint comes: what was sent before has an entry that leads to no endpoint (kubernetes#48370).
2. An endpoint that is leaving and still serves keeps its UDP entries. Readiness, weights and traffic policies move new connections only.
3. TCP ends by itself while there is somebody to end it. Only where a pod is dead (its object is gone, it has finished or its node is fenced) do its
   TCP entries go, so that a client's next packet meets a machine that knows nothing of the connection and resets it. An endpoint's death is often
   told after it has left: a node's a moment later, that of a pod that was drained when its object goes. `Departed` remembers those until then.
   Entries that stayed would be taken for new connections too: a client that gave up during an outage leaves one for two minutes or for days, and
   its next connection from the same port would follow it to the endpoint that is gone.
4. Where a TCP endpoint left and its pod lives, the entries go that it never answered (SYN_SENT): a client that was cut off from it leaves one for two minutes.
   The first packet of a client that still waits is sent again (agent/helper/revive.py) and meets another endpoint.
5. When rules are there again that somebody had flushed, TCP entries go that lead to no endpoint: a packet that left meanwhile made one, and each of
   its repetitions would follow it to nowhere (`unrouted`).
6. Nothing else goes: no entry of another Service that has the same pod behind it, none that goes to a pod's own address, no other protocol.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from labctl.proxy.chains import Rules
from labctl.proxy.frontends import Frontend
from labctl.proxy.hostports import HostPort
from labctl.proxy.rules import Entry, Facts
from labctl.proxy.steps import Step, moved

DEPARTED_MAX = 2_000
UNROUTED_MAX = 5_000
Front = tuple[str, int]
"""Where clients send to: an address, or an empty one for all of the machine's own; and a port."""
_FRONT = re.compile(r"LABCTL-(?:SERVICES|NODEPORTS|HOSTPORTS|REJECT) (?:-d ([\d.]+)/32 )?-p (tcp|udp) .*--dport (\d+) ")


def stale(steps: Sequence[Step], entries: Iterable[Entry], facts: Facts, is_dead: Callable[[str], bool]) -> dict[str, Any]:
    """Return the parameters of the helper's `conntrack`, or {} if there is nothing to delete. What the steps lead to was made of `entries`."""
    served: dict[Front, list[str]] = {front: [] for front in _fronts(_had(steps), "udp") - _fronts(_has(steps), "udp")}
    for entry in entries:
        if isinstance(entry, Frontend) and entry.protocol == "UDP":
            served |= dict.fromkeys(_fronts_of(entry), _serving(entry, facts))
        elif isinstance(entry, HostPort) and entry.protocol == "UDP" and entry.node == facts.node:
            served[entry.address, entry.port] = [entry.pod_address]
    udp = [{"address": address, "port": port, "serving": serving} for (address, port), serving in sorted(served.items())]
    tcp: list[dict[str, Any]] = []
    unanswered: list[dict[str, Any]] = []
    for address, port in sorted(moved(steps)[0]):
        (tcp if is_dead(address) else unanswered).append({"address": address, "port": port})
    found = {"udp": udp, "tcp": tcp, "unanswered": unanswered}
    return {name: entries for name, entries in found.items() if entries}


def unrouted(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Return the addresses of TCP ports that are served again, as the helper's `conntrack` takes them; at most 5,000."""
    came = _fronts(_has(steps), "tcp") - _fronts(_had(steps), "tcp")
    return [{"address": address, "port": port} for address, port in sorted(came) if address][:UNROUTED_MAX]


class Departed:
    """The TCP endpoints that left a minion's rules while they lived, newest last. Connections to them may still be open."""

    def __init__(self) -> None:
        self._left: dict[tuple[str, int], None] = {}

    def note(self, steps: Sequence[Step], is_dead: Callable[[str], bool]) -> None:
        """Rules changed."""
        went, came = moved(steps)
        for endpoint in came:
            self._left.pop(endpoint, None)
        self._left |= dict.fromkeys(endpoint for endpoint in sorted(went) if not is_dead(endpoint[0]))
        while len(self._left) > DEPARTED_MAX:
            del self._left[next(iter(self._left))]

    def dead(self, is_dead: Callable[[str], bool]) -> list[dict[str, Any]]:
        """Somebody died: those of them that are dead now, as the helper's `conntrack` takes them. Each is told once."""
        found = [endpoint for endpoint in self._left if is_dead(endpoint[0])]
        for endpoint in found:
            del self._left[endpoint]
        return [{"address": address, "port": port} for address, port in found]


def _had(steps: Sequence[Step]) -> Iterable[Rules]:
    return (step.had for step in steps)


def _has(steps: Sequence[Step]) -> Iterable[Rules]:
    return (step.has for step in steps)


def _fronts(rules: Iterable[Rules], protocol: str) -> set[Front]:
    """Return the ports that rules serve or reject."""
    found = (_FRONT.match(line) for some in rules for line in (*some.nat.shared, *some.filter.shared))
    return {(match[1] or "", int(match[3])) for match in found if match and match[2] == protocol}


def _fronts_of(frontend: Frontend) -> Iterable[Front]:
    yield from ((address, frontend.port) for address in (frontend.address, *frontend.external_addresses))
    if frontend.node_port:
        yield "", frontend.node_port


def _serving(frontend: Frontend, facts: Facts) -> list[str]:
    """Return the addresses that answers may come from. In userspace mode it is the minion's own; the forwarder handles its endpoints."""
    if facts.userspace:
        return [facts.address] if frontend.serving else []
    return sorted({backend.address for backend in (*frontend.backends, *frontend.leaving)})
