"""How many new connections go to each endpoint, counted by the minions' own rules, while a page is open.

Each minion's rules for a Service choose an endpoint for the first packet of a connection, and the kernel counts how often each rule chose. The master reads
these counters every EVERY_S with `iptables-save -c`, over an SSH connection of the kind that exec and logs use, so that it never stands in the way
of rules that are being changed. What a minion says is text from outside: it is bounded, and a line of another form is passed over.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from labctl.clock import Clock
from labctl.dash.feed import Feed
from labctl.errors import LabctlError
from labctl.reconcile.plan import View
from labctl.remote.interface import Remote
from labctl.resources.plurals import MACHINES

EVERY_S, DEADLINE_S, PAUSE_S = 2.0, 4.0, 10.0
BYTES_MAX, ROWS_MAX, AT_ONCE = 8 << 20, 2_000, 8
_CHOSE = re.compile(rb'\[(\d{1,18}):\d+\] -A LABCTL-[A-Z]+-\S+ .{0,80}--comment "([^" ]{1,400}) -> ([0-9.]{7,15}):\d{1,5}"')

Counts = Mapping[tuple[str, str], int]
"""(Service as namespace/name, the endpoint's address) -> connections since the rules were made."""


def counts(text: bytes) -> Counts:
    """Returns what `iptables-save -c` says of the choices of endpoints."""
    found: Counter[tuple[str, str]] = Counter()
    for line in text[:BYTES_MAX].splitlines():
        match = _CHOSE.match(line)
        if match:
            service = match[2].decode("ascii", "replace").partition(":")[0]
            found[service, match[3].decode()] += int(match[1])
    return found


def more(before: Counts, after: Counts) -> Counts:
    """Returns how many connections came between two readings. A counter that fell began anew, because its rule was made anew."""
    return {key: now - before.get(key, 0) if now >= before.get(key, 0) else now for key, now in after.items()}


class Traffic:
    """Tells the open pages the flow, while there are any. `run` is one of the master's long-lived tasks."""

    def __init__(self, feed: Feed, remote: Remote, view: View, clock: Clock, flavour: str) -> None:
        self._feed = feed
        self._remote = remote
        self._view = view
        self._clock = clock
        self._command = ["iptables-save" if flavour == "auto" else f"iptables-{flavour}-save", "-c", "-t", "nat"]
        self._before: dict[str, tuple[float, Counts]] = {}

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            await self._feed.somebody_looks()
            names = [one.metadata.name for one in self._view.all(MACHINES) if self._remote.connected(one.metadata.name)]
            self._feed.tell("flow", rows(await self._rates(names)))
            await asyncio.sleep(EVERY_S)

    async def _rates(self, names: Sequence[str]) -> Mapping[tuple[str, str], float]:
        """Returns connections per second, of all minions together. One that does not answer in time adds nothing."""
        places = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> Mapping[tuple[str, str], float]:
            async with places:
                return await self._rate(name)

        total: dict[tuple[str, str], float] = {}
        for found in await asyncio.gather(*(one(name) for name in names)):
            for key, rate in found.items():
                total[key] = total.get(key, 0.0) + rate
        self._before = {name: self._before[name] for name in names if name in self._before}
        return total

    async def _rate(self, name: str) -> Mapping[tuple[str, str], float]:
        try:
            async with asyncio.timeout(DEADLINE_S):
                after = counts(await self._read(name))
        except (TimeoutError, LabctlError):
            self._before.pop(name, None)
            return {}
        now, known = self._clock.now(), self._before.get(name)
        self._before[name] = now, after
        if known is None or now - known[0] > PAUSE_S or now <= known[0]:  # a first reading, or one after a long pause
            return {}
        return {key: count / (now - known[0]) for key, count in more(known[1], after).items() if count}

    async def _read(self, name: str) -> bytes:
        stream = await self._remote.open(name, self._command)
        try:
            data = bytearray()
            async for which, part in stream.read():
                if which == 1:
                    data += part
                if len(data) > BYTES_MAX:
                    break
            return bytes(data)
        finally:
            await stream.close()


def rows(rates: Mapping[tuple[str, str], float]) -> list[Sequence[str | float]]:
    """Returns what the page is told: the busiest endpoints, in an order that does not change by itself."""
    busiest: Iterable[tuple[tuple[str, str], float]] = sorted(rates.items(), key=lambda one: -one[1])[:ROWS_MAX]
    return [[service, address, round(rate, 2)] for (service, address), rate in sorted(busiest)]
