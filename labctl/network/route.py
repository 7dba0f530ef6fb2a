"""Plain routes: a pod's packets find its minion by the kernel's own routing table. This is the simplest network, if minions share one link.

Each minion has a route to every other minion's pod range through that minion, and one for the range of virtual addresses. No packet ever
travels there
(the proxy's rules translate the address first), but the kernel needs a route before it applies the rules, and takes the packet's source
from it.
"""

from __future__ import annotations

from collections.abc import Sequence

from labctl.network.plugin import Place, Program, Route, every_minion, others
from labctl.network.settings import NetworkSettings


class RoutePlugin:
    """The plug-in that the module's docstring describes."""

    name = "route"
    programs: tuple[str, ...] = ()
    overhead_bytes = 0

    def plan(self, me: Place, all_places: Sequence[Place], settings: NetworkSettings) -> Program:
        return every_minion(me, settings, [Route(p.pod_range, via=p.address) for p in others(me, all_places)])
