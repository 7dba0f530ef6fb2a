"""The seam of network plug-ins: what each minion needs so that every pod reaches every pod.

A plug-in is a function of what is seen: no I/O, no clock. It answers data that the minion's helper carries out (agent/helper/network.py), whole each time
and idempotent, so there is nothing to undo. Adding one is a file here and a line in `PLUGINS` (network.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from labctl.network.settings import NetworkSettings


class Place(msgspec.Struct, frozen=True, order=True):
    """A minion: its name, its own address in the lab's network, the range its pods get addresses from (empty: not given yet)."""

    name: str
    address: str
    pod_range: str


class Route(msgspec.Struct, frozen=True, omit_defaults=True):
    """Through another minion (`via`), or straight onto the lab's link with the minion's own address as source (`link`)."""

    to: str
    via: str = ""
    link: bool = False


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

    def params(self) -> dict[str, Any]:
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


class Plugin(Protocol):
    name: str

    def plan(self, me: Place, all_places: Sequence[Place], settings: NetworkSettings) -> Program:
        """What `me` needs, given every minion there is (itself included), in the order of names."""
