"""Who answers a load balancer's address: chosen among ready minions, moved when they die, told anew when a minion may have forgotten."""

from __future__ import annotations

import pytest

from labctl.network.announce import EXCLUDED, OUT_OF_SERVICE, elected

ADDRESS = "10.245.1.225"


async def ready(world, name, status="True"):
    condition = {"type": "Ready", "status": status, "reason": "x", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    await world.client.patch("nodes", name, {"status": {"conditions": [condition]}}, "status")


async def minions(world, count=3):
    for number in range(1, count + 1):
        await world.minion(number)
        await ready(world, f"minion-{number}")
    await world.settled()


async def balanced(world, name="web", address=ADDRESS, **spec):
    await world.service(name, type="LoadBalancer", **spec)
    await world.client.patch("services", f"default/{name}", {"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}, "status")
    await world.settled()


def holders(world, address=ADDRESS):
    return [name for name, helper in world.helpers.minions.items() if address in helper.announced]


async def test_one_ready_minion_answers_and_the_next_one_when_it_dies(world):
    await minions(world)
    await balanced(world)
    names = [f"minion-{n}" for n in (1, 2, 3)]
    first = elected(ADDRESS, names)
    assert holders(world) == [first] and world.announcer.announcing(ADDRESS) == first
    world.helpers.lose(first)
    await world.client.patch("nodes", first, {"spec": {"taints": [{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]}})
    second = elected(ADDRESS, [name for name in names if name != first])
    await world.until(lambda: second in holders(world))
    world.helpers.reconnect(first)  # it was only away: it lets go
    await world.until(lambda: holders(world) == [second])
    await world.client.patch("nodes", first, {"spec": {"taints": None}})
    await world.until(lambda: holders(world) == [first])


@pytest.mark.parametrize("how", ["unready", "excluded", "deleted"])
async def test_who_may_not_announce(world, how):
    await minions(world)
    await balanced(world)
    [first] = holders(world)
    if how == "unready":
        await ready(world, first, "Unknown")
    elif how == "excluded":
        await world.client.patch("nodes", first, {"metadata": {"labels": {EXCLUDED: ""}}})
    else:
        await world.client.delete("nodes", first)
    await world.until(lambda: [name for name in holders(world) if name != first or how != "deleted"] not in ([], [first]))


async def test_with_a_local_policy_only_minions_with_endpoints_answer_and_all_say_how_many(world):
    await minions(world)
    await world.endpoints("web", ("a", "10.246.2.5", "minion-2"), ("b", "10.246.2.6", "minion-2"))
    await balanced(world, externalTrafficPolicy="Local")
    assert holders(world) == ["minion-2"]
    port = world.client.get("services", "default/web").spec.health_check_node_port
    assert 30000 <= port <= 32767
    assert [world.helpers.minions[f"minion-{n}"].health for n in (1, 2, 3)] == [{port: 0}, {port: 2}, {port: 0}]
    await world.endpoints("web", ("a", "10.246.3.5", "minion-3"))
    await world.until(lambda: holders(world) == ["minion-3"])
    await world.endpoints("web")
    await world.until(lambda: holders(world) == [])


async def test_addresses_are_spread_and_the_death_of_one_moves_only_its_own():
    names = [f"minion-{n}" for n in range(1, 6)]
    addresses = [f"10.245.1.{n}" for n in range(225, 255)]
    before = {address: elected(address, names) for address in addresses}
    assert len(set(before.values())) == 5
    after = {address: elected(address, names[1:]) for address in addresses}
    assert all(after[address] == name for address, name in before.items() if name != "minion-1")


async def test_a_minion_that_may_have_forgotten_is_told_again(world):
    await minions(world, 1)
    await balanced(world)
    helper = world.helpers.minions["minion-1"]
    count = helper.methods().count("announce")
    helper.announced = []
    world.helpers.tell("minion-1", "digest", {"rules": "", "announced": "lost"})
    await world.until(lambda: helper.announced == [ADDRESS])
    assert helper.methods().count("announce") == count + 1


async def test_a_lab_without_load_balancers_makes_no_call(world):
    await minions(world)
    assert all("announce" not in helper.methods() for helper in world.helpers.minions.values())


async def test_other_classes_and_other_types_are_left_alone(world):
    await minions(world)
    await balanced(world, loadBalancerClass="metallb.example/l2")
    assert holders(world) == []
    await balanced(world, "web2", "10.245.1.226")
    assert holders(world, "10.245.1.226")
    await world.client.patch("services", "default/web2", {"spec": {"type": "ClusterIP"}})
    await world.until(lambda: not holders(world, "10.245.1.226"))


@pytest.mark.parametrize("lie", [{"added": 7}, {"added": ["x"] * 1000}, {"trouble": [None]}, []])
async def test_a_helper_that_lies_is_said_once_and_asked_again(world, lie):
    await minions(world, 1)
    helper = world.helpers.minions["minion-1"]
    helper._announce = lambda _params: lie
    await world.service("web", type="LoadBalancer")
    await world.client.patch("services", "default/web", {"status": {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}}, "status")
    await world.until(lambda: helper.methods().count("announce") >= 2)
    said = [line for line in world.journal.lines if "could not announce addresses" in line.text]
    assert len(said) == 1 and len(said[0].text) < 1000
    del helper._announce
    await world.until(lambda: helper.announced == [ADDRESS])
