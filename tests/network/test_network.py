"""The Network on a real store and runner, with fake helpers for minions."""

from __future__ import annotations


def routes(world, name):
    return {r["to"]: r.get("via", "") for r in world.helpers.minions[name].network["routes"]}


async def test_each_minion_has_a_route_to_each_other(world):
    for n in (1, 2, 3):
        await world.minion(n)
    await world.settled()
    assert routes(world, "minion-1") == {"10.247.0.0/16": "", "10.246.2.0/24": "10.245.1.12", "10.246.3.0/24": "10.245.1.13"}
    await world.client.delete("nodes", "minion-2")
    await world.until(lambda: "10.246.2.0/24" not in routes(world, "minion-1"))


async def test_a_plan_is_sent_once_and_again_when_it_may_be_lost(world):
    helper = await world.minion(1)
    await world.settled()
    await world.client.patch("nodes", "minion-1", {"metadata": {"labels": {"a": "b"}}})
    await world.settled()
    assert helper.methods().count("network") == 1
    world.helpers.reconnect("minion-1")
    await world.until(lambda: helper.methods().count("network") == 2)
    boot = {"status": {"nodeInfo": {"bootID": "boot-2"}}}
    await world.client.patch("nodes", "minion-1", boot, "status")
    await world.until(lambda: helper.methods().count("network") == 3)


async def test_a_minion_that_was_away_gets_the_plan_of_now(world):
    await world.minion(1)
    await world.settled()
    world.helpers.lose("minion-1")
    await world.minion(2)
    await world.until(lambda: world.helpers.minions["minion-2"].network is not None)
    world.helpers.reconnect("minion-1")
    await world.until(lambda: "10.246.2.0/24" in routes(world, "minion-1"))
