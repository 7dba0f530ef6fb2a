"""New connections to each endpoint, from what minions say of their rules."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest

from labctl.dash import traffic
from labctl.dash.feed import Feed
from labctl.dash.requests import Requests
from labctl.dash.traffic import Traffic, counts, more, rows
from labctl.errors import Unreachable
from labctl.measure.live import SourceTick, Tick
from labctl.sim.picture import Picture

SAVED = b"""*nat
:LABCTL-SVC-ABCDEFGHIJKLMNOP - [0:0]
[12:720] -A LABCTL-SERVICES -d 10.247.0.10/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -j LABCTL-SVC-ABCDEFGHIJKLMNOP
[7:420] -A LABCTL-SVC-ABCDEFGHIJKLMNOP -m comment --comment "default/web:http -> 10.246.1.2:80" -m statistic --mode random --probability 0.5 -j LABCTL-SEP-A
[5:300] -A LABCTL-SVC-ABCDEFGHIJKLMNOP -m comment --comment "default/web:http -> 10.246.2.3:80" -j LABCTL-SEP-B
[99:1] -A OTHERS-SVC-X -m comment --comment "default/web -> 10.246.2.3:80" -j ACCEPT
COMMIT
"""


def test_choices_of_endpoints_are_counted() -> None:
    assert counts(SAVED) == {("default/web", "10.246.1.2"): 7, ("default/web", "10.246.2.3"): 5}


@pytest.mark.parametrize("text", [b"", b"\x00\xff" * 1000, b"[" * 100_000, b"[1:1] -A LABCTL-SVC-X " + b"x " * 1_000_000, SAVED[:200]])
def test_what_a_minion_says_is_passed_over_where_it_is_no_choice(text: bytes) -> None:
    assert counts(text) == {}


def test_a_counter_that_fell_began_anew() -> None:
    key, new = ("default/web", "10.246.1.2"), ("default/web", "10.246.9.9")
    assert more({key: 10}, {key: 12, new: 3}) == {key: 2, new: 3}
    assert more({key: 10}, {key: 4}) == {key: 4}


def test_the_busiest_endpoints_are_told_in_a_fixed_order() -> None:
    many = {("default/web", f"10.0.{i // 250}.{i % 250}"): float(i) for i in range(5_000)}
    told = rows(many)
    assert len(told) == traffic.ROWS_MAX and told == sorted(told) and ["default/web", "10.0.19.249", 4999.0] in told


class Remote:
    """A remote whose minions answer what the test says: `minion-2` never does."""

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []
        self.web = 0

    def connected(self, name: str) -> bool:
        return name != "minion-3"

    async def open(self, name: str, argv: Sequence[str]):
        self.asked.append([name, *argv])
        if name == "minion-2":
            raise Unreachable("minion-2 does not answer")
        return self

    async def read(self) -> AsyncIterator[tuple[int, bytes]]:
        self.web += 30
        yield 1, SAVED.replace(b"[7:420]", b"[%d:420]" % self.web)
        yield 2, b"# Warning: something"

    async def close(self) -> None: ...


async def test_it_looks_only_while_a_page_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "EVERY_S", 0.15)
    picture, feed, remote = Picture(), Feed(), Remote()
    for number in (1, 2, 3):
        machine = {
            "apiVersion": "labctl.internal/v1",
            "kind": "Machine",
            "metadata": {"name": f"minion-{number}"},
            "spec": {"number": number},
        }
        picture.put(machine)
    some = Traffic(feed, remote, picture.view, picture.clock, "nft")  # type: ignore[arg-type]
    task = asyncio.create_task(some.run())
    await asyncio.sleep(0.05)
    assert not remote.asked
    with feed.page() as page:
        told = page.chunks(dict)
        async with asyncio.timeout(20):
            while b"10.246.1.2" not in await anext(told):
                picture.clock.time += 2.0
    asked = {tuple(one) for one in remote.asked}
    assert asked == {(name, "iptables-nft-save", "-c", "-t", "nat") for name in ("minion-1", "minion-2")}
    await asyncio.sleep(0.3)  # the round that was under way
    seen = len(remote.asked)
    await asyncio.sleep(0.3)
    assert len(remote.asked) == seen
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_page_is_told_the_last_minute_of_a_measurement_and_then_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.dash.requests.EVERY_S", 0.01)
    clock, feed = Picture().clock, Feed()
    ticks = [Tick("m", "http://10.247.0.10/", 10.0, clock.now() - 5 + i, 0.0, (SourceTick("host", {"ok": 10}),)) for i in range(5)]
    task = asyncio.create_task(Requests(feed, lambda since_s: [tick for tick in ticks if tick.at_s > since_s], clock).run())
    for _ in range(2):
        with feed.page() as page:
            told = page.chunks(dict)
            async with asyncio.timeout(20):
                while b"event: requests" not in await anext(told):
                    pass
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
