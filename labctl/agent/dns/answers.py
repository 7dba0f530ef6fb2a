"""Decides the answer to one query from the zone. Pure functions: the server sends the answers and asks other servers."""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Union

from . import wire
from .wire import Query
from .zone import Found, Zone

KEPT_MAX = 4_096  # answers that are ready to be sent again
KEPT_BYTES = 512


class Ready(NamedTuple):
    """The answer is ready to be sent."""

    data: bytes


class Ask(NamedTuple):
    """Another server must be asked first. `found` is what we know ourselves, up to a CNAME that leads outside; None if the name is not ours."""

    asked: Query
    found: Optional[Found]


class Answers:
    """Answers queries from one zone. Call `changed` when the zone has changed."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self._kept: Dict[bytes, bytes] = {}

    def changed(self, zone: Zone) -> None:
        self.zone = zone
        self._kept.clear()

    def of(self, data: bytes, over_tcp: bool = False) -> Union[Ready, Ask, None]:
        """Return the answer to a query, or None if it must not be answered."""
        key = data[2:]
        kept = None if over_tcp else self._kept.get(key)
        if kept is not None:
            return Ready(data[:2] + kept)
        try:
            asked = wire.query(data)
        except wire.Malformed:
            return Ready(wire.malformed(data))
        if asked is None:
            return None
        code = _refusal(asked)
        if code is not None:
            return Ready(wire.failure(asked, code))
        if not self.zone.owns(asked.name):
            return Ask(asked, None)
        found = self.zone.find(asked.name, asked.type)
        if found.outside and asked.type != wire.CNAME:
            return Ask(asked, found)
        made = self.answer(asked, found, over_tcp)
        if not over_tcp and len(data) <= KEPT_BYTES and len(found.answers) < 2:  # several are shuffled anew for each client
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            self._kept[key] = made[2:]
        return Ready(made)

    def answer(self, asked: Query, found: Found, over_tcp: bool) -> bytes:
        most = wire.TCP_BYTES if over_tcp else asked.answer_bytes
        nothing = not found.answers or found.code == wire.NO_SUCH_NAME
        authority = [self.zone.authority()] if nothing else []
        return wire.answer(asked, found.code, found.answers, authority, found.additional, most)


def _refusal(asked: Query) -> Optional[int]:
    if asked.edns_version > 0:
        return wire.BAD_VERSION
    if asked.opcode != 0:
        return wire.NOT_IMPLEMENTED
    if asked.class_ not in (wire.IN, wire.ANY) or asked.type in (251, 252):  # nobody gets the whole zone at once
        return wire.REFUSED
    return None
