"""The protocol of network plug-ins: each plans what a minion needs so that every pod reaches every other.

A plug-in does no I/O and reads no clock. It answers a Program, which the minion's helper carries out (agent/helper/network.py). A Program is always the
whole plan, and carrying it out twice changes nothing, so there is nothing to undo. To add a plug-in, add a file here and a line in `PLUGINS` (network.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from labctl.network.settings import NetworkSettings

SYSCTLS = {
    "net.ipv4.ip_forward": 1,
    "net.ipv4.conf.all.rp_filter": 2,  # a source may be answered through another interface: externalIPs come and go different ways
    "net.ipv4.conf.all.route_localnet": 1,  # 127.0.0.1:PORT may lead to a pod that has this host port; the proxy's rules keep others out
    "net.ipv4.conf.all.send_redirects": 0,  # who reaches a virtual address through this minion must not be told to look for it on the link;
    "net.ipv4.conf.LINK.send_redirects": 0,  # nor a pod that reaches itself by one to do so without us: each would use up
    "net.ipv4.conf.default.send_redirects": 0,  # the right to send a refusal (the kernel limits ICMP per peer)
}


class Place(msgspec.Struct, frozen=True, order=True):
    """A minion: its name, its own address in the lab's network, the range its pods get addresses from (empty: not given yet)."""

    name: str
    address: str
    pod_range: str


class Route(msgspec.Struct, frozen=True, omit_defaults=True):
    """Through another minion (`via`), or straight onto the lab's link with the minion's own address as source (`link`).

    `device`: one that this program makes; `via` is then taken to be on it, whatever its addresses say.
    """

    to: str
    via: str = ""
    link: bool = False
    device: str = ""


class Peer(msgspec.Struct, frozen=True):
    """The other end of a tunnel: the minion's own address outside; its address and its device's hardware address inside."""

    address: str
    inner: str
    mac: str


class Tunnel(msgspec.Struct, frozen=True):
    """A VXLAN device, whose peers are all told: nothing is learnt and nothing is flooded."""

    vni: int
    port: int
    mtu: int
    inner: str
    mac: str
    peers: tuple[Peer, ...] = ()


class SwitchPeer(Peer, frozen=True):
    """A peer that has a number of its own, as ports have."""

    number: int


class Switch(msgspec.Struct, frozen=True):
    """A switch with a tunnel to each peer. `number`: this minion's, as its peers call it."""

    port: int
    mtu: int
    inner: str
    mac: str
    number: int
    peers: tuple[SwitchPeer, ...] = ()


class Masquerade(msgspec.Struct, frozen=True):
    """What comes from `source` and goes `outside` of this range leaves with the minion's address."""

    source: str
    outside: str


class Program(msgspec.Struct, frozen=True):
    """All of one minion's network, as its helper takes it."""

    address: str
    routes: tuple[Route, ...] = ()
    sysctls: Mapping[str, int] = {}
    masquerade: Masquerade | None = None
    accept: tuple[str, ...] = ()  # ranges whose packets this minion forwards, whatever its policy for others is
    tunnel: Tunnel | None = None
    switch: Switch | None = None
    bird: str = ""  # the routing daemon's configuration; empty: it does not run

    def params(self) -> dict[str, Any]:
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


class Plugin(Protocol):
    name: str
    programs: tuple[str, ...]
    """What a minion must have installed for it, besides what every minion has (provision/packages.NAME)."""
    overhead_bytes: int
    """What each packet between minions carries besides itself: pods' links have so much less room than the minions' own."""

    def plan(self, me: Place, all_places: Sequence[Place], settings: NetworkSettings) -> Program:
        """What `me` needs, given every minion there is (itself included), in the order of names."""


def every_minion(me: Place, settings: NetworkSettings, routes: Sequence[Route]) -> Program:
    """What a minion needs on any network: the way to the virtual addresses, forwarding, and the masquerade of what leaves for the world."""
    masquerade = Masquerade(me.pod_range, settings.pod_range) if me.pod_range else None
    ways = (Route(settings.service_range, link=True), *routes)
    return Program(me.address, ways, SYSCTLS, masquerade, (settings.pod_range,))


def others(me: Place, all_places: Sequence[Place]) -> list[Place]:
    """Whoever else has pods."""
    return [place for place in all_places if place.name != me.name and place.pod_range and place.address]
