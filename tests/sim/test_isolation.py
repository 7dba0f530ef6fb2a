"""No pod that a NetworkPolicy selects ever runs on a node whose rules do not fence it, whatever breaks meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from labctl.resources.isolation import NETWORK_READY
from labctl.resources.kinds.shared import condition_status
from labctl.sim.clock import run
from labctl.sim.containers import Running
from labctl.sim.hollow import HollowNode
from labctl.sim.objects import deployment
from labctl.sim.world import World
from tests.sim.test_deployments import QUICK, rolled

POLICY = {
    "metadata": {"namespace": "default", "name": "deny"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
}


class FencedWorld(World):
    """Looks at the rules of a pod's node at the moment at which the pod starts."""

    def _started(self, node: HollowNode, pod: Running) -> None:
        super()._started(node, pod)
        rules = self.helpers.minions[node.name].dump()
        if not all(f"{way} {pod.ip}/32" in rules for way in ("-s", "-d")):
            self._broken([f"{pod.key} started on {node.name} before its rules were there"])


async def _slow(world: World) -> None:
    """Every minion takes its rules late, each as late as its number says."""
    for number, helper in enumerate(world.helpers.minions.values(), 1):
        helper.delay_s = 0.3 * number


async def _master_restarts(world: World) -> None:
    await _slow(world)
    await asyncio.sleep(0.3)
    await world.restart_master()


async def _away(world: World) -> None:
    world.helpers.lose("minion-2")
    await asyncio.sleep(3.0)
    assert not any(pod.ready for pod in world.client.list("pods") if pod.spec.node_name == "minion-2")
    world.helpers.reconnect("minion-2")


@pytest.mark.parametrize("trouble", [_slow, _master_restarts, _away])
def test_no_selected_pod_runs_before_its_rules_are_there(trouble):
    async def live() -> None:
        world = FencedWorld(1, QUICK, proxies=3)
        await world.start(3)
        assert not await world.calm(10)
        await world.client.create("networkpolicies.networking.k8s.io", POLICY)
        await world.client.create("deployments.apps", deployment("web", 12))
        await trouble(world)
        await rolled(world)
        pods = world.client.list("pods")
        assert {condition_status(pod.status.conditions, NETWORK_READY) for pod in pods} == {"True"}
        assert not world.wrong
        await world.stop()

    run(live())
