"""A load balancer's address on real minions: asked from the lab's network, moved when its minion dies, fenced, checked for health."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter

import pytest

from labctl.network.announce import OUT_OF_SERVICE
from tests.network.test_announce import ADDRESS, ready
from tests.proxy.test_real_proxy import A, C, world

__all__ = ["world"]  # pytest finds the fixture here
pytestmark = pytest.mark.root


async def asked(world, port=80, times=20) -> Counter:
    """Asks from the master's end of the lab's network, which has no rules of ours."""
    found: Counter = Counter()
    for _ in range(times):
        found[await asyncio.to_thread(world.helpers.lab.tcp, ADDRESS, port)] += 1
    return found


async def served(world, *pods, **spec):
    for name in ("minion-1", "minion-2"):
        await ready(world, name)
    await world.service("web", type="LoadBalancer", **spec)
    await world.endpoints("web", *pods)
    await world.client.patch("services", "default/web", {"status": {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}}, "status")
    await world.settled()


async def test_it_is_reached_from_the_labs_network_and_moves_when_its_minion_dies(world):
    await served(world, A, C)
    assert {pod for pod, _ in await asked(world)} == {A[1], C[1]}
    first = world.announcer.announcing(ADDRESS)
    other = {"minion-1": "minion-2", "minion-2": "minion-1"}[first]
    await world.endpoints("web", A if other == "minion-1" else C)
    await world.settled()
    world.helpers.nodes[first].batch("link set eth0 down")  # its power is gone
    began = time.monotonic()
    await world.client.patch("nodes", first, {"spec": {"taints": [{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]}})

    def answered() -> bool:
        try:
            return bool(world.helpers.lab.tcp(ADDRESS, 80, timeout_s=0.1))
        except OSError:
            return False

    while not await asyncio.to_thread(answered):
        assert time.monotonic() < began + 5
    print(f"moved in {(time.monotonic() - began) * 1000:.0f} ms")
    world.helpers.nodes[first].batch("link set eth0 up")
    await world.until(lambda: f"{ADDRESS}/32" not in world.helpers.nodes[first].run("ip", "-4", "address", "show"))
    assert await asked(world, times=5)


async def test_who_is_not_of_the_source_ranges_is_not_let_in(world):
    await served(world, A, C, loadBalancerSourceRanges=["10.99.0.0/16"])
    with pytest.raises(OSError):
        await asked(world, times=1)
    await world.client.patch("services", "default/web", {"spec": {"loadBalancerSourceRanges": ["10.245.1.1/32"]}})
    await world.settled()
    assert {pod for pod, _ in await asked(world)} == {A[1], C[1]}


async def test_a_local_policy_keeps_the_clients_address_and_tells_who_asks_for_health(world):
    await served(world, C, externalTrafficPolicy="Local")
    assert world.announcer.announcing(ADDRESS) == "minion-2"
    assert set(await asked(world)) == {(C[1], "10.245.1.1")}
    port = world.client.get("services", "default/web").spec.health_check_node_port
    said = {}
    for name, machine in (("minion-1", "10.245.1.11"), ("minion-2", "10.245.1.12")):
        said[name] = world.helpers.lab.run("curl", "-s", "-w", " %{http_code}", f"http://{machine}:{port}/")
    body, code = said["minion-2"].rsplit(" ", 1)
    assert (json.loads(body)["localEndpoints"], code) == (1, "200") and said["minion-1"].endswith(" 503")
    await world.client.delete("services", "default/web")
    await world.settled()
    assert "000" in world.helpers.lab.run("curl", "-s", "-w", " %{http_code}", f"http://10.245.1.12:{port}/", check=False)


async def test_an_address_that_somebody_took_away_comes_back(world):
    await served(world, A, C)
    node = world.helpers.nodes[world.announcer.announcing(ADDRESS)]
    node.batch(f"address del {ADDRESS}/32 dev eth0")
    await world.until(lambda: f"{ADDRESS}/32" in node.run("ip", "-4", "address", "show"))
