"""An object's past: the journal's lines about it, or Kubernetes' Events where the journal has none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from labctl.clock import parse_rfc3339
from labctl.controllers.indexes import ENDPOINTS, EVENTS, MACHINES, NODES, PODS, REPLICATION_CONTROLLERS, SERVICES
from labctl.journal import Line
from labctl.reconcile.plan import Key, View
from labctl.resources.cells import duration

PAST_LINES = 12  # of an object's past, the latest
_KILLERS = ("taint-eviction-controller", "pod-garbage-collector")


class Past(Protocol):
    """The part of the journal that is read."""

    @property
    def lines(self) -> Sequence[Line]: ...


def past_of(view: View, journal: Past, kind: str, key: Key, thing: Any) -> list[str]:
    abouts = {f"{kind}/{key}", *_same(kind, key)}
    told = [
        _told(view, line.at, line.text, line.room, line.about.rpartition("/")[2] if line.about not in abouts else "")
        for line in _latest_rules(_lines(journal, kind, key, abouts))
    ]
    return (told or list(_events(view, key, thing)))[-PAST_LINES:]


def _lines(journal: Past, kind: str, key: Key, abouts: set[str]) -> Iterator[Line]:
    """Yield the lines about an object. A controller's past includes what it did to its pods, and what killed them."""
    by = f" by replicationcontroller {key.rpartition('/')[2]}" if kind == REPLICATION_CONTROLLERS else None
    pods = f"{PODS}/{key.partition('/')[0]}/"
    its_own: set[str] = set()
    for line in journal.lines:
        if line.about in abouts:
            yield line
        elif by and line.about.startswith(pods):
            if by in line.text:
                its_own.add(line.about)
                yield line
            elif line.about in its_own and line.room in _KILLERS:
                yield line


def _latest_rules(lines: Iterable[Line]) -> list[Line]:
    """Keep only the last line of each minion about a Service's rules, which are written again and again."""
    kept: dict[Any, Line] = {}
    for number, line in enumerate(lines):
        same = line.text.partition(" has its rules")[0] if line.room == "proxy" and " has its rules" in line.text else number
        kept.pop(same, None)
        kept[same] = line
    return list(kept.values())


def _same(kind: str, key: Key) -> Iterator[str]:
    """Yield other names by which the journal calls the object."""
    if kind in (NODES, MACHINES):
        yield from (f"{NODES}/{key}", f"{MACHINES}/{key}", f"machine/{key}")
    if kind == SERVICES:
        yield f"{ENDPOINTS}/{key}"


def _events(view: View, key: Key, thing: Any) -> Iterator[str]:
    """Yield Kubernetes' Events about the object, if the journal has nothing."""
    if thing is None:
        return
    about = list(view.by(EVENTS, "about", thing.metadata.uid))
    for event in sorted(about, key=lambda event: (event.last_timestamp, event.metadata.name)):
        at = event.last_timestamp or event.metadata.creation_timestamp
        text = f"{event.message} ({event.reason}{f', {event.count} times' if event.count > 1 else ''})"
        yield _told(view, parse_rfc3339(at) if at else view.wall(), text, event.source.component or event.reporting_component, "")


def _told(view: View, at_s: float, text: str, room: str, name: str) -> str:
    age = duration(max(0.0, view.wall() - at_s))
    return f"{age} ago: {f'{name}: ' if name else ''}{text} [{room}]"
