"""What `labctl trace` answers, as a value: a packet's ways through one minion's real rules, and how these differ from the wanted ones. Pure.

It reads what the machine said (its rules with counters, its connections, the clients that it remembers) and what the master wants; all of the former may be
anything, and is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from random import Random

import msgspec

from labctl.proxy.chains import TABLES, Rules, parse
from labctl.proxy.dump import Counter, Dump
from labctl.proxy.frontends import Backend, Frontend
from labctl.proxy.matches import Packet, World
from labctl.proxy.tracer import Step
from labctl.proxy.ways import Way, common, ways

DIFFERENCES_MAX = 50
CONNECTIONS_MAX = 10_000
_CONNECTION = re.compile(r"src=([\d.]+) dst=([\d.]+) sport=(\d+) dport=(\d+) .*?src=([\d.]+) dst=([\d.]+) sport=(\d+)")
_TO = re.compile(r"--to-destination ([\d.]+):(\d+)")


class Passed(msgspec.Struct, frozen=True):
    """A rule on the way, and how often it was hit since it was written."""

    table: str
    chain: str
    rule: str
    packets: int = 0
    bytes: int = 0


class End(msgspec.Struct, frozen=True, kw_only=True):
    """One end of the ways: an endpoint, this machine itself, or a refusal. `steps` are those that not all ways share."""

    verdict: str  # FORWARD, LOCAL, REJECT, DROP
    address: str
    port: int
    probability: float
    masqueraded: bool
    pod: str = ""
    node: str = ""
    new_connections: int = 0  # that took this end so far: the counter of its DNAT rule
    bytes: int = 0
    open_connections: int = 0  # that the machine knows of now
    remembers_client: bool = False  # session affinity sends this client here
    policy: str = ""  # what the rules of its own minion say, where they were asked
    steps: tuple[Passed, ...] = ()


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """`wanted` is false where the master knows nothing of the minion's rules, so nothing could be compared."""

    at: str
    source: str
    to: str
    port: int
    protocol: str
    steps: tuple[Passed, ...]
    ends: tuple[End, ...]
    differences: tuple[str, ...] = ()
    wanted: bool = True
    unread: Mapping[str, str] = {}  # lines of others that were passed over, and why


def walk(
    at: str,
    packet: Packet,
    dump: Dump,
    local: frozenset[str],
    frontend: Frontend | None,
    wanted: str | None,
    connections: Sequence[str] = (),
    recent: Mapping[str, frozenset[str]] = {},
) -> Walk:
    """Send the packet through the machine's rules. `recent`: chain of an endpoint -> the clients that the kernel remembers for it."""
    found = ways(dump, packet, World(local=local, rng=Random(0), recent={name: dict.fromkeys(some, 0.0) for name, some in recent.items()}))
    shared = common(found)
    known = {(backend.address, backend.port): backend for backend in (*frontend.backends, *frontend.leaving)} if frontend else {}
    now = open_connections(connections, packet)
    ends = tuple(_end(way, len(shared), dump, known, now, recent, packet.source) for way in found)
    differences = tuple(different(parse(wanted), parse(dump.plain), frontend)) if wanted is not None else ()
    return Walk(
        at=at,
        source=packet.source,
        to=packet.destination,
        port=packet.port,
        protocol=packet.protocol,
        steps=tuple(_passed(dump, step) for step in shared),
        ends=tuple(sorted(ends, key=lambda end: (-round(end.probability, 9), end.address, end.port))),
        differences=differences[:DIFFERENCES_MAX],
        wanted=wanted is not None,
        unread=dump.unread,
    )


def _passed(dump: Dump, step: Step) -> Passed:
    counter = dump.counter(step.table, step.chain, step.rule)
    return Passed(step.table, step.chain, step.rule, counter.packets, counter.bytes)


def _end(
    way: Way,
    shared: int,
    dump: Dump,
    known: Mapping[tuple[str, int], Backend],
    now: Mapping[tuple[str, int], int],
    recent: Mapping[str, frozenset[str]],
    source: str,
) -> End:
    trace = way.trace
    place = trace.packet.destination, trace.packet.port
    backend = known.get(place)
    chosen = next((step for step in trace.steps if step.table == "nat" and _TO.search(step.rule)), None)
    counter = dump.counter(chosen.table, chosen.chain, chosen.rule) if chosen else Counter()
    return End(
        verdict=trace.verdict,
        address=place[0],
        port=place[1],
        probability=round(way.probability, 9),
        masqueraded=trace.masqueraded,
        pod=backend.pod if backend else "",
        node=backend.node if backend else "",
        new_connections=counter.packets,
        bytes=counter.bytes,
        open_connections=now.get(place, 0),
        remembers_client=chosen is not None and source in recent.get(chosen.chain, frozenset()),
        steps=tuple(_passed(dump, step) for step in trace.steps[shared:]),
    )


def open_connections(lines: Sequence[str], packet: Packet) -> Mapping[tuple[str, int], int]:
    """Count the machine's connections to this address and port, by who answers. A line is one of conntrack's or of /proc/net/nf_conntrack's."""
    found: dict[tuple[str, int], int] = {}
    for line in lines[:CONNECTIONS_MAX]:
        match = _CONNECTION.search(line) if len(line) < 1_000 else None
        if match and match[2] == packet.destination and int(match[4]) == packet.port and packet.protocol in line.split(None, 4)[:4]:
            answers = match[5], int(match[7])
            found[answers] = found.get(answers, 0) + 1
    return found


def different(wanted: Rules, real: Rules, frontend: Frontend | None) -> Iterator[str]:
    """Yield a line for each difference: `-` lacks on the machine, `+` is there and not wanted. Other Services' rules are not looked at."""
    for name in TABLES:
        want, have = wanted.table(name), real.table(name)
        for chain, lines in want.owned.items():
            if chain not in have.owned:
                yield f"- {name} {chain}: the whole chain"
                continue
            found = have.owned[chain]
            lacks, extra = set(lines) - set(found), set(found) - set(lines)
            yield from (f"- {name} {chain} {line}" for line in lines if line in lacks)
            yield from (f"+ {name} {chain} {line}" for line in found if line in extra)
            if not lacks and not extra and found != lines:
                yield f"~ {name} {chain}: its lines are in another order, or there more than once"
        there = set(have.shared)
        yield from (f"- {name} {line}" for line in want.shared if line not in there)
        ours = set(want.shared)
        yield from (f"+ {name} {line}" for line in have.shared if frontend and line not in ours and _names(line, frontend))


def _names(line: str, frontend: Frontend) -> bool:
    """Tell whether a line of a shared chain is about the Service port."""
    return f"-d {frontend.address}/32 " in line and f"--dport {frontend.port} " in line
