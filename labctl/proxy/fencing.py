"""NetworkPolicies' Sides and Fences as rules: the second step (rules.py) for what policies.py answers.

FORWARD (new connections) -> POLICY: by the fenced pod's address -> NPF: that pod's Fence -> NPI or NPE: each of its policies
                                                                    lets through what a policy marked, drops the rest
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

from labctl.proxy.chains import Rules, chain_name, parse
from labctl.proxy.policies import EVERYBODY, Fence, Opening, Side
from labctl.resources.kinds.networking_v1.networkpolicy import INGRESS

LET_THROUGH = 0x4000
"""The bit of a packet's mark that a policy sets on what it lets through. The proxy's other bit asks for masquerade (settings.py)."""
Line = tuple[str, str, str, str]
"""Peer, fenced pod, protocol, ports as iptables writes them; empty: any."""
Render = Callable[..., str]


def rules_of(entry: Side | Fence, render: Callable[[str], Render]) -> Rules:
    return _side(entry, render) if isinstance(entry, Side) else _fence(entry, render)


@lru_cache(maxsize=5_000)
def _side(side: Side, render: Callable[[str], Render]) -> Rules:
    lines = dict.fromkeys(line for opening in side.openings for line in _lines(opening))
    inward = side.direction == INGRESS
    text = render("side")(
        chain=_chain(side.policy, side.direction),
        lines=lines,
        source=lambda peer, pod: peer if inward else pod,
        destination=lambda peer, pod: pod if inward else peer,
        mark=hex(LET_THROUGH),
    )
    return parse(text)


@lru_cache(maxsize=20_000)
def _fence(fence: Fence, render: Callable[[str], Render]) -> Rules:
    inward = fence.direction == INGRESS
    text = render("fence")(
        pod=fence.pod,
        address=fence.address,
        direction=fence.direction,
        here="-d" if inward else "-s",
        there="-s" if inward else "-d",
        chain=chain_name("NPF", fence.pod, fence.direction),
        policies=[_chain(policy, fence.direction) for policy in fence.policies],
        mark=hex(LET_THROUGH),
    )
    return parse(text)


def _lines(opening: Opening) -> Iterator[Line]:
    pod = f"{opening.pod}/32" if opening.pod else ""
    for peer in opening.peers:
        where = "" if peer in EVERYBODY else peer
        if not opening.ports:
            yield where, pod, "", ""
        for protocol, first, last in opening.ports:
            yield where, pod, protocol.lower(), "" if not first else str(first) if first == last else f"{first}:{last}"


def _chain(policy: str, direction: str) -> str:
    return chain_name("NPI" if direction == INGRESS else "NPE", policy)
