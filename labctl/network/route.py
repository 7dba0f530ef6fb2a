"""Plain routes: a pod's packets find its minion by the kernel's own routing table. The simplest network there is, where minions share one link.

Each minion has a route to every other minion's pod range through that minion, and one for the range of virtual addresses: nothing ever travels there (the
proxy's rules translate the address first), but the kernel needs a route before it asks the rules, and takes the packet's source from it.
"""

from __future__ import annotations

from collections.abc import Sequence

from labctl.network.plugin import Masquerade, Place, Program, Route
from labctl.network.settings import NetworkSettings

SYSCTLS = {
    "net.ipv4.ip_forward": 1,
    "net.ipv4.conf.all.rp_filter": 2,  # a source may be answered through another interface: externalIPs come and go different ways
    "net.ipv4.conf.all.send_redirects": 0,  # who reaches a virtual address through this minion must not be told to look for it on the link;
    "net.ipv4.conf.LINK.send_redirects": 0,  # nor a pod that reaches itself by one to do so without us: each would use up
    "net.ipv4.conf.default.send_redirects": 0,  # the right to send a refusal (the kernel limits ICMP per peer)
}


class RoutePlugin:
    name = "route"

    def plan(self, me: Place, all_places: Sequence[Place], settings: NetworkSettings) -> Program:
        others = [p for p in all_places if p.name != me.name and p.pod_range and p.address]
        routes = [Route(settings.service_range, link=True), *(Route(p.pod_range, via=p.address) for p in others)]
        masquerade = Masquerade(me.pod_range, settings.pod_range) if me.pod_range else None
        return Program(me.address, tuple(routes), SYSCTLS, masquerade, (settings.pod_range,))
