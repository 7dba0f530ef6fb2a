"""Dns on a real store and runner, with fake helpers for minions: what reaches which minion, and when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random

import pytest

from labctl.clock import SystemClock
from labctl.dns.dns import Dns
from labctl.errors import CommandFailed
from labctl.proxy.settings import ProxySettings
from labctl.reconcile.runner import Runner
from labctl.resources.events import Recorder
from tests.programming import World

WEB = "default/web"


class DnsWorld(World):
    """The proxy is there, but asked nothing."""

    def __init__(self) -> None:
        super().__init__(ProxySettings())
        clock = SystemClock()
        self.dns = Dns(self.helpers, self.journal, clock)
        self.runner = Runner(
            self.resources, self.client, lambda c: Recorder(self.client, c, clock), [self.dns], clock, self.journal, Random(2)
        )
        self.helpers.listen(self.dns.notified)

    async def start(self) -> None:
        await self.client.create("namespaces", {"metadata": {"name": "default"}})
        await self.runner.start()
        await self.dns.start()

    async def stop(self) -> None:
        await self.dns.stop()
        await self.runner.stop()
        await self.events.close()

    async def settled(self) -> None:
        await self.until(lambda: self.runner.idle and self.dns.idle)


@pytest.fixture
async def world() -> AsyncIterator[DnsWorld]:
    made = DnsWorld()
    await made.start()
    yield made
    await made.stop()


def sent(helper) -> list:
    return [(sorted(params["set"]), params["remove"], params["whole"]) for method, params in helper.calls if method == "dns"]


async def test_each_minion_has_all_names_and_then_what_changes(world):
    await world.service("web")
    one = await world.minion(1)
    await world.settled()
    assert sent(one) == [([WEB, "namespace:default"], [], True)]
    assert one.calls[0][1]["settings"]["address"] == "10.245.1.11"
    two = await world.minion(2)
    await world.service("db", clusterIP="None")
    await world.endpoints("db", ("a", "10.246.1.5", "minion-1"))
    await world.settled()
    assert one.names == two.names and set(one.names) == {WEB, "default/db", "namespace:default"}
    assert all(not whole for _, _, whole in sent(one)[1:])
    await world.client.delete("services", WEB)
    await world.settled()
    assert sent(one)[-1] == ([], [WEB], False) and WEB not in two.names
    assert world.dns.answering("default/db") == {"minion-1": True, "minion-2": True}


async def test_a_server_that_is_new_is_told_everything(world):
    helper = await world.minion(1)
    await world.service("web")
    await world.settled()
    for say in (("connected", {}), ("helper", {}), ("digest", {"dns": "lost"})):
        helper.calls.clear()
        helper.names = {}
        world.helpers.tell("minion-1", *say)
        await world.settled()
        assert [whole for _, _, whole in sent(helper)] == [True] and WEB in helper.names
    helper.calls.clear()
    world.helpers.tell("minion-1", "digest", {"rules": "x"})
    await world.settled()
    assert helper.calls == []


async def test_what_changes_while_a_minion_is_away_reaches_it_later(world):
    helper = await world.minion(1)
    await world.service("web")
    await world.settled()
    world.helpers.lose("minion-1")
    await world.service("db")
    await world.settled()
    assert "default/db" not in helper.names and world.dns.answering("default/db") == {"minion-1": False}
    world.helpers.reconnect("minion-1")
    await world.until(lambda: "default/db" in helper.names)


async def test_a_connection_that_was_lost_in_the_middle_proves_nothing(world):
    helper = await world.minion(1)
    await world.settled()
    helper.delay_s = 0.05
    await world.service("web")
    await world.until(lambda: not world.dns._workers.idle)
    world.helpers.tell("minion-1", "connected", {})
    await world.until(lambda: any(whole and WEB in keys for keys, _, whole in sent(helper)[1:]))


async def test_a_refusal_is_written_down_once_and_tried_again(world):
    helper = await world.minion(1)
    await world.settled()
    refused = []

    def refuse(params):
        refused.append(params)
        raise CommandFailed("minion-1", ["dns"], 1, "address already in use")

    good, helper._dns = helper._dns, refuse
    await world.service("web")
    await world.until(lambda: len(refused) >= 3)
    helper._dns = good
    await world.until(lambda: WEB in helper.names)
    said = [line.text for line in world.journal.lines if line.room == "dns" and "could not" in line.text]
    assert len(said) == 1 and "already in use" in said[0]


async def test_a_mistake_with_one_service_costs_no_other(world, monkeypatch):
    from labctl.dns import dns

    good = dns.service_rows
    monkeypatch.setattr(dns, "service_rows", lambda service, *rest: 1 / 0 if service.metadata.name == "bad" else good(service, *rest))
    helper = await world.minion(1)
    await world.service("bad")
    await world.service("web")
    await world.settled()
    assert WEB in helper.names and "default/bad" not in helper.names


async def test_a_minion_that_goes_is_forgotten(world):
    await world.minion(1)
    await world.settled()
    await world.client.delete("nodes", "minion-1")
    await world.until(lambda: world.dns.answering(WEB) == {})
