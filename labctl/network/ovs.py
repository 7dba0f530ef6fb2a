"""Connects minions with Open vSwitch, as the first Kubernetes clusters in Vagrant did: a bridge `obr0` on each, and a VXLAN tunnel to every
other.

The kernel sees one link that all minions share, and routes pods' packets onto it as onto any other. The switch's flows say which minion is
behind which tunnel. They follow from what the master knows, so the switch neither learns nor floods, and tunnels between all minions make
no loop.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import msgspec

from labctl.network.plugin import Place, Program, Route, Switch, SwitchPeer, every_minion, others
from labctl.network.settings import NetworkSettings
from labctl.network.vxlan import CLOSED, PORT, VxlanPlugin, hardware_address, inner_address

BRIDGE = "obr0"


class OvsPlugin:
    """The plug-in that the module's docstring describes."""

    name = "ovs"
    programs: tuple[str, ...] = ("ovs-vsctl", "ovs-vswitchd")
    overhead_bytes = VxlanPlugin.overhead_bytes

    def plan(self, me: Place, all_places: Sequence[Place], settings: NetworkSettings) -> Program:
        if not me.pod_range:
            return every_minion(me, settings, ())
        peers = [SwitchPeer(p.address, inner_address(p), hardware_address(p), number(p, settings)) for p in others(me, all_places)]
        routes = [Route(p.pod_range, via=inner_address(p), device=BRIDGE) for p in others(me, all_places)]
        mtu = settings.link_mtu_bytes - self.overhead_bytes
        switch = Switch(PORT, mtu, inner_address(me), hardware_address(me), number(me, settings), tuple(peers))
        return msgspec.structs.replace(every_minion(me, settings, routes), switch=switch, closed=CLOSED)


def number(place: Place, settings: NetworkSettings) -> int:
    """Return the number of a minion's pod range in the lab: minion-N has the N-th."""
    own, whole = ipaddress.IPv4Network(place.pod_range), ipaddress.IPv4Network(settings.pod_range)
    return (int(own.network_address) - int(whole.network_address)) // own.num_addresses
