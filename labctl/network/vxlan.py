"""A VXLAN overlay, as Flannel's: pods' packets travel between minions inside UDP, so the network between them need not know a pod's
address.

Each minion has one VXLAN device with the first address of its pod range. For every other minion the master gives it three entries, so it
never asks
the network for one:

    route       10.246.2.0/24 via 10.246.2.0 dev labctl-vxlan onlink     the next hop is the other minion's device
    neighbour   10.246.2.0 is 0e:6c:0a:f6:02:00                          a permanent ARP entry
    forwarding  0e:6c:0a:f6:02:00 is behind 10.245.1.12                  the destination of the UDP packet

So nothing is learnt (`nolearning`) and nothing is flooded. The hardware address follows from the pod range, which follows from the minion's
number, so
a minion that comes back has the address that all others know.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import msgspec

from labctl.network.plugin import Peer, Place, Port, Program, Route, Tunnel, every_minion, others
from labctl.network.settings import NetworkSettings

DEVICE = "labctl-vxlan"
VNI = 1
PORT = 8472  # Linux used this port before the standard, and Flannel still does
CLOSED = (Port("udp", PORT),)
"""A VXLAN device takes whatever comes to its port, from anybody: a pod could wrap packets with false senders itself."""


class VxlanPlugin:
    """The plug-in that the module's docstring describes."""

    name = "vxlan"
    programs: tuple[str, ...] = ("bridge",)
    overhead_bytes = 50  # IP 20, UDP 8, VXLAN 8, and 14 of the inner Ethernet header

    def plan(self, me: Place, all_places: Sequence[Place], settings: NetworkSettings) -> Program:
        peers = [Peer(p.address, inner_address(p), hardware_address(p)) for p in others(me, all_places)]
        routes = [Route(p.pod_range, via=inner_address(p), device=DEVICE) for p in others(me, all_places)]
        if not me.pod_range:
            return every_minion(me, settings, ())  # it is no part of the overlay yet
        mtu = settings.link_mtu_bytes - self.overhead_bytes
        tunnel = Tunnel(VNI, PORT, mtu, inner_address(me), hardware_address(me), tuple(peers))
        return msgspec.structs.replace(every_minion(me, settings, routes), tunnel=tunnel, closed=CLOSED)


def inner_address(place: Place) -> str:
    """Return the first address of the pod range, which no pod ever gets."""
    return str(ipaddress.IPv4Network(place.pod_range).network_address)


def hardware_address(place: Place) -> str:
    """Return a locally administered address that is always the same for a pod range."""
    return "0e:6c:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Network(place.pod_range).network_address.packed)
