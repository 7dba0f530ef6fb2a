"""Distributes routes by BGP, as Calico does: BIRD on each minion announces its pod range to all others, and puts the routes that it learns
into the
kernel's table.

Packets travel as with plain routes, without an outer header. The difference is who knows the routes: the master tells a minion only its
neighbours (in
BIRD's configuration). The routes come from the minions themselves, and those of a minion that dies are gone within the hold time, with or
without a master.

Every minion has a session with every other (iBGP needs a full mesh, or route reflectors). This is right for small labs, up to about fifty
minions.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from labctl import assets
from labctl.network.plugin import Place, Port, Program, every_minion, others
from labctl.network.settings import NetworkSettings

if TYPE_CHECKING:
    import jinja2

SYSTEM = 64512  # the first private autonomous system, which Calico uses too
CLOSED = (Port("tcp", 179),)
"""A pod's connection to another minion comes from its own minion's address, so BIRD would take it for a neighbour's."""
HOLD_S = 6  # BGP allows 3; an emulated machine on a busy host may be silent for longer


class BgpPlugin:
    """The plug-in that the module's docstring describes."""

    name = "bgp"
    programs: tuple[str, ...] = ("bird", "birdc")
    overhead_bytes = 0

    def plan(self, me: Place, all_places: Sequence[Place], settings: NetworkSettings) -> Program:
        return msgspec.structs.replace(
            every_minion(me, settings, ()), bird=configuration(me, others(me, all_places), settings), closed=CLOSED
        )


def configuration(me: Place, neighbours: Sequence[Place], settings: NetworkSettings) -> str:
    """Return BIRD's configuration for one minion."""
    prefix = ipaddress.IPv4Network(me.pod_range).prefixlen if me.pod_range else 24
    return _template().render(me=me, others=neighbours, pod_range=settings.pod_range, pod_prefix=prefix, system=SYSTEM, hold_s=HOLD_S)


@cache
def _template() -> jinja2.Template:
    import jinja2  # imported late, so that it does not delay the master's start

    text = assets.template("network/bird.conf.j2").read_text()
    return jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True).from_string(text)
