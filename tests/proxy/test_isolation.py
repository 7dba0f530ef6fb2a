"""A pod that policies select starts when its own minion fences it: who says so, when, and what keeps it waiting."""

from __future__ import annotations

from labctl.proxy import table
from labctl.resources.isolation import NETWORK_READY
from labctl.resources.kinds.shared import condition_status
from tests.programming import World

POLICIES = "networkpolicies.networking.k8s.io"


async def deny(world: World, name: str = "deny") -> None:
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    await world.client.create(POLICIES, {"metadata": {"namespace": "default", "name": name}, "spec": spec})


async def address(world: World, pod: str, ip: str, *, again: bool = False) -> None:
    """Report a pod's address, as its agent does. `again`: its network was made anew."""
    found = world.client.raw("pods", f"default/{pod}")
    conditions = [
        {**each, "status": "False"} if again and each["type"] == NETWORK_READY else each for each in found["status"]["conditions"]
    ]
    status = {"podIP": ip, "podIPs": [{"ip": ip}], "conditions": conditions}
    await world.client.patch("pods", f"default/{pod}", {"status": status}, "status")


def said(world: World, pod: str) -> str:
    return condition_status(world.client.get("pods", f"default/{pod}").status.conditions, NETWORK_READY)


async def test_a_pod_may_start_when_its_own_minion_fences_it(world):
    slow, other = await world.minion(1), await world.minion(2)
    await deny(world)
    await world.pod("a", "minion-1")
    await world.settled()
    assert said(world, "a") == "False", "it has no address that could be fenced"
    slow.delay_s = 0.1
    await address(world, "a", "10.246.1.5")
    await world.until(lambda: world.proxy.table.get(table.policies_key("default")) and not world.proxy._dirty)
    assert said(world, "a") == "False" and "10.246.1.5" not in slow.dump()
    await world.until(lambda: said(world, "a") == "True")
    assert "-d 10.246.1.5/32" in slow.dump() and "-s 10.246.1.5/32" in slow.dump()
    assert "10.246.1.5" not in other.dump(), "the fence is at the pod, nowhere else"


async def test_another_minion_that_is_away_is_not_waited_for(world):
    await world.minion(1)
    await world.minion(2)
    world.helpers.lose("minion-2")
    await deny(world)
    await world.pod("a", "minion-1")
    await address(world, "a", "10.246.1.5")
    await world.until(lambda: said(world, "a") == "True")


async def test_a_pod_waits_as_long_as_its_minion_is_away_or_refuses(world):
    helper = await world.minion(1)
    await deny(world)
    await world.settled()
    world.helpers.lose("minion-1")
    await world.pod("a", "minion-1")
    await address(world, "a", "10.246.1.5")
    await world.until(lambda: world.runner.idle and not world.proxy._dirty)
    assert said(world, "a") == "False"
    helper.fail_next = "iptables-restore: line 3 failed"
    world.helpers.reconnect("minion-1")
    await world.until(lambda: said(world, "a") == "True")
    assert "-d 10.246.1.5/32" in helper.dump()


async def test_a_network_made_anew_is_fenced_anew(world):
    helper = await world.minion(1)
    await deny(world)
    await world.pod("a", "minion-1")
    await address(world, "a", "10.246.1.5")
    await world.until(lambda: said(world, "a") == "True")
    helper.delay_s = 0.05
    await address(world, "a", "10.246.1.9", again=True)
    assert said(world, "a") == "False"
    await world.until(lambda: said(world, "a") == "True")
    assert "-d 10.246.1.9/32" in helper.dump() and "10.246.1.5" not in helper.dump()


async def test_a_pod_whose_policies_have_gone_starts(world):
    await world.minion(1)
    await deny(world)
    await world.pod("a", "minion-1")
    await world.client.delete(POLICIES, "default/deny")
    await address(world, "a", "10.246.1.5")
    await world.until(lambda: said(world, "a") == "True")


async def test_a_policy_that_we_fail_to_read_keeps_its_pods_waiting(world, monkeypatch):
    await world.minion(1)
    await deny(world)
    await world.settled()
    broken = monkeypatch.context()
    with broken as patch:
        patch.setattr(table, "fences", lambda *_: 1 / 0)
        await world.pod("a", "minion-1")
        await address(world, "a", "10.246.1.5")
        await world.until(lambda: world.runner.idle and not world.proxy._dirty)
        assert said(world, "a") == "False"
    await deny(world, "again")
    await world.until(lambda: said(world, "a") == "True")


async def test_a_pod_that_leaves_or_needs_nothing_is_left_alone(world):
    await world.minion(1)
    await world.pod("free", "minion-1")
    await deny(world)
    await world.pod("leaving", "minion-1")
    await world.client.patch("pods", "default/leaving", {"metadata": {"finalizers": ["example.com/hold"]}})
    await world.client.delete("pods", "default/leaving")
    await world.client.patch("pods", "default/free", {"status": {"podIP": "10.246.1.4"}}, "status")
    await address(world, "leaving", "10.246.1.5")
    await world.settled()
    assert (said(world, "free"), said(world, "leaving")) == ("", "False")
