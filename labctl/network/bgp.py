"""Routes by BGP, as Calico spreads them: BIRD on each minion announces its pod range to all the others, and puts what it hears into the kernel's table.

The packets go as with plain routes, with nothing around them. What differs is who knows: the master tells a minion only who its neighbours are (one text,
BIRD's configuration); the routes come from the minions themselves, and those of a minion that dies are gone within the hold time, master or no master.

Every minion has a session with every other (iBGP needs a full mesh, or route reflectors): right for the labs this is for, and up to some fifty minions.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from labctl import assets
from labctl.network.plugin import Place, Program, every_minion, others
from labctl.network.settings import NetworkSettings

if TYPE_CHECKING:
    import jinja2

SYSTEM = 64512  # the first of the private autonomous systems, as Calico takes it
HOLD_S = 6  # BGP allows 3; a machine that is emulated on a busy host may well be silent for longer


class BgpPlugin:
    name = "bgp"
    programs: tuple[str, ...] = ("bird", "birdc")
    overhead_bytes = 0

    def plan(self, me: Place, all_places: Sequence[Place], settings: NetworkSettings) -> Program:
        return msgspec.structs.replace(every_minion(me, settings, ()), bird=configuration(me, others(me, all_places), settings))


def configuration(me: Place, neighbours: Sequence[Place], settings: NetworkSettings) -> str:
    """BIRD's, for one minion."""
    prefix = ipaddress.IPv4Network(me.pod_range).prefixlen if me.pod_range else 24
    return _template().render(me=me, others=neighbours, pod_range=settings.pod_range, pod_prefix=prefix, system=SYSTEM, hold_s=HOLD_S)


@cache
def _template() -> jinja2.Template:
    import jinja2  # not on the way of a master's start

    text = assets.template("network/bird.conf.j2").read_text()
    return jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True).from_string(text)
