"""Who is told who a node's peers are, and with which keys."""

import pytest

from labctl import defaults
from labctl.api.extensions import ExtensionRequest
from labctl.api.query import Query
from labctl.controllers.nodes import Nodes
from labctl.errors import ApiError
from labctl.master.peers import PeersRoute
from labctl.resources.service import User
from labctl.sim.objects import node
from labctl.sim.picture import Picture


def picture(*names):
    made = Picture([Nodes()])
    for number, name in enumerate(names, 11):
        one = node(name)
        one["status"]["addresses"] = [{"type": "InternalIP", "address": f"10.245.1.{number}"}]
        made.put(one)
    return made


async def told(route, name):
    return await route(ExtensionRequest(User(f"system:node:{name}", ("system:nodes",)), {}, Query({})))


async def test_each_pair_has_a_key_of_its_own_that_only_these_two_are_told():
    route = PeersRoute(picture("a", "b", "c").view, defaults.TIMINGS["lab"], b"secret")
    keys = {name: {peer["name"]: peer["key"] for peer in (await told(route, name))["peers"]} for name in "abc"}
    assert keys["a"]["b"] == keys["b"]["a"] and keys["a"]["c"] == keys["c"]["a"] and keys["b"]["c"] == keys["c"]["b"]
    assert len({keys["a"]["b"], keys["a"]["c"], keys["b"]["c"]}) == 3
    assert (await told(route, "a"))["port"] == defaults.PEERS_PORT


async def test_with_kubernetes_timing_nobody_has_peers():
    assert (await told(PeersRoute(picture("a", "b").view, defaults.TIMINGS["kubernetes"], b"secret"), "a"))["peers"] == []


async def test_only_a_node_is_told_its_peers():
    route = PeersRoute(picture("a", "b").view, defaults.TIMINGS["lab"], b"secret")
    with pytest.raises(ApiError, match="only a node"):
        await route(ExtensionRequest(User("labctl-admin", ("system:masters",)), {}, Query({})))
