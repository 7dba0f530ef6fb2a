"""The protocol of network plug-ins: each plans what a minion needs so that every pod reaches every other.

A plug-in does no I/O and reads no clock. It returns a Program, which the minion's helper carries out (agent/helper/network.py). A Program
is always the
whole plan, and carrying it out twice changes nothing, so there is nothing to undo. To add a plug-in, add a file here and a line in
`PLUGINS` (network.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from labctl.network.settings import NetworkSettings

SYSCTLS = {
    "net.ipv4.ip_forward": 1,
    "net.ipv4.conf.all.rp_filter": 2,  # an answer may leave by another interface than the request's: with externalIPs the two ways differ
    "net.ipv4.conf.all.route_localnet": 1,  # 127.0.0.1:PORT leads to the pod that has this host port; the proxy's rules keep strangers out
    "net.ipv4.conf.all.send_redirects": 0,  # a client that reaches a virtual address through this minion must not be redirected to the link,
    "net.ipv4.conf.LINK.send_redirects": 0,  # nor a pod that reaches itself through one. Each redirect would also use up
    "net.ipv4.conf.default.send_redirects": 0,  # the number of refusals that may be sent (the kernel limits ICMP per peer)
}


class Place(msgspec.Struct, frozen=True, order=True):
    """A minion's name, its own address in the lab's network, and the range of its pods' addresses (empty: not given yet)."""

    name: str
    address: str
    pod_range: str


class Route(msgspec.Struct, frozen=True, omit_defaults=True):
    """A route through another minion (`via`), or directly onto the lab's link with the minion's own address as source (`link`).

    `device` is one that this program makes. Then `via` is taken to be on it, whatever its addresses say.
    """

    to: str
    via: str = ""
    link: bool = False
    device: str = ""


class Peer(msgspec.Struct, frozen=True):
    """The other end of a tunnel. Outside it has the minion's own address; inside it has an address and a hardware address of its own."""

    address: str
    inner: str
    mac: str


class Tunnel(msgspec.Struct, frozen=True):
    """A VXLAN device. The program lists all of its peers, so it learns nothing and floods nothing."""

    vni: int
    port: int
    mtu: int
    inner: str
    mac: str
    peers: tuple[Peer, ...] = ()


class SwitchPeer(Peer, frozen=True):
    """A peer with a number of its own, because a switch's ports have numbers."""

    number: int


class Switch(msgspec.Struct, frozen=True):
    """A switch with a tunnel to each peer. `number` is this minion's, as its peers use it."""

    port: int
    mtu: int
    inner: str
    mac: str
    number: int
    peers: tuple[SwitchPeer, ...] = ()


class Masquerade(msgspec.Struct, frozen=True):
    """Packets from `source` to an address outside of the range `outside` leave with the minion's address."""

    source: str
    outside: str


class Port(msgspec.Struct, frozen=True):
    """A port at which minions speak among themselves, and believe what comes: no pod may reach it."""

    protocol: str
    number: int


class Program(msgspec.Struct, frozen=True):
    """The whole network of one minion, in the form that its helper takes."""

    address: str
    routes: tuple[Route, ...] = ()
    sysctls: Mapping[str, int] = {}
    masquerade: Masquerade | None = None
    accept: tuple[str, ...] = ()  # ranges whose packets this minion forwards, whatever its firewall does with others
    closed: tuple[Port, ...] = ()  # to packets from those ranges
    tunnel: Tunnel | None = None
    switch: Switch | None = None
    bird: str = ""  # the routing daemon's configuration; empty: it does not run

    def params(self) -> dict[str, Any]:
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


class Plugin(Protocol):
    """A way of connecting the pods of all minions."""

    name: str
    programs: tuple[str, ...]
    """Programs that it needs on a minion, besides those that every minion has (provision/packages.NAME)."""
    overhead_bytes: int
    """The bytes of the outer headers of each packet between minions. The MTU of pods' links is smaller by this."""

    def plan(self, me: Place, all_places: Sequence[Place], settings: NetworkSettings) -> Program:
        """Return what `me` needs, given all minions (itself included), sorted by name."""


def every_minion(me: Place, settings: NetworkSettings, routes: Sequence[Route]) -> Program:
    """Return what a minion needs on any network: the route to virtual addresses, forwarding, and the masquerade of what leaves the lab."""
    masquerade = Masquerade(me.pod_range, settings.pod_range) if me.pod_range else None
    ways = (Route(settings.service_range, link=True), *routes)
    return Program(me.address, ways, SYSCTLS, masquerade, (settings.pod_range,))


def others(me: Place, all_places: Sequence[Place]) -> list[Place]:
    """Return the other minions that have pod ranges."""
    return [place for place in all_places if place.name != me.name and place.pod_range and place.address]
