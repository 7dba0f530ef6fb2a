"""The whole Proxy and Network on real minions: objects in, connections through. And the userspace mode with its real forwarder."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from labctl.proxy.settings import ProxySettings
from tests.minions import Minions
from tests.programming import World

pytestmark = pytest.mark.root
A, B, C = ("a", "10.246.1.2", "minion-1"), ("b", "10.246.1.3", "minion-1"), ("c", "10.246.2.2", "minion-2")


@pytest.fixture
async def world(request) -> AsyncIterator[World]:
    """Two minions, three pods; `indirect` parameters are the proxy's settings."""
    minions = Minions()
    made = World(getattr(request, "param", ProxySettings()), minions)
    try:
        await made.start()
        await made.minion(1)
        await made.minion(2)
        await made.settled()
        for _, address, _ in (A, B, C):
            minions.pod(address)
        yield made
        await made.stop()
    finally:
        await minions.close()


def place(world, name):
    return world.helpers.nodes.get(name) or world.helpers.pods[name]


async def ask(world, name, address, port=80, times=40) -> Counter:
    space = place(world, name)
    return Counter([await asyncio.to_thread(space.tcp, address, port) for _ in range(times)])


def who(found: Counter) -> set[str]:
    return {answer for answer, _ in found}


async def vip_of(world, name: str) -> str:
    return world.client.get("services", f"default/{name}").spec.cluster_ip


def kill_forwarders(program: Path) -> None:
    """Those of this test's minions, by the file they run."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        if f"{program}\0forwarder" in command.read_text():
            os.kill(int(command.parent.name), signal.SIGKILL)


USERSPACE = ProxySettings(mode="userspace")


@pytest.mark.parametrize("world", [ProxySettings(), USERSPACE], ids=["iptables", "userspace"], indirect=True)
async def test_a_service_from_its_creation_to_its_end(world):
    await world.service("web", type="NodePort")
    await world.settled()
    address = await vip_of(world, "web")
    with pytest.raises(ConnectionRefusedError):
        await ask(world, "minion-1", address, times=1)
    await world.endpoints("web", A, B, C)
    await world.settled()
    node_port = world.client.get("services", "default/web").spec.ports[0].node_port
    for name in ("minion-1", "minion-2", A[1]):
        assert who(await ask(world, name, address)) == {A[1], B[1], C[1]}, name
    assert who(await ask(world, C[1], "10.245.1.11", node_port)) == {A[1], B[1], C[1]}
    await world.endpoints("web", C)
    await world.settled()
    assert who(await ask(world, "minion-1", address)) == {C[1]}
    await world.client.delete("services", "default/web")
    await world.settled()
    with pytest.raises(ConnectionRefusedError):
        await ask(world, "minion-1", address, times=1)


async def test_a_network_policy_is_enforced_and_lifted(world):
    """Between pods of one minion and of two, through a Service and straight; the node itself always reaches its pods."""
    for name, address, node in (A, B, C):
        await world.pod(name, node)
        status = {"podIP": address, "podIPs": [{"ip": address}]}
        await world.client.patch("pods", f"default/{name}", {"metadata": {"labels": {"app": name}}, "status": status})
        await world.client.patch("pods", f"default/{name}", {"status": status}, "status")
    await world.service("web")
    await world.endpoints("web", A)
    spec = {"podSelector": {"matchLabels": {"app": "a"}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "b"}}}]}]}
    await world.client.create("networkpolicies.networking.k8s.io", {"metadata": {"namespace": "default", "name": "p"}, "spec": spec})
    await world.settled()
    vip = await vip_of(world, "web")

    def reached(source: str, address: str, port: int) -> bool:
        try:
            return place(world, source).tcp(address, port, timeout_s=0.3)[0] == A[1]
        except TimeoutError:
            return False

    async def seen() -> list[bool]:
        asked = [
            (B[1], A[1], 8080),
            (B[1], vip, 80),
            (C[1], A[1], 8080),
            (C[1], vip, 80),
            ("minion-1", A[1], 8080),
            ("minion-2", A[1], 8080),
        ]
        return [await asyncio.to_thread(reached, *one) for one in asked]

    assert await seen() == [True, True, False, False, True, False]
    await world.client.patch("pods", "default/c", {"metadata": {"labels": {"app": "b"}}})
    await world.client.patch("pods", "default/b", {"metadata": {"labels": {"app": "x"}}})
    await world.settled()
    assert await seen() == [False, False, True, True, True, False]
    await world.client.delete("networkpolicies.networking.k8s.io", "default/p")
    await world.settled()
    assert await seen() == [True] * 6


@pytest.mark.parametrize("world", [ProxySettings(flavour="nft"), ProxySettings(flavour="legacy")], ids=["nft", "legacy"], indirect=True)
async def test_a_flush_is_repaired_within_two_seconds(world):
    await world.service("web")
    await world.endpoints("web", A, C)
    await world.settled()
    address = await vip_of(world, "web")
    node = place(world, "minion-1")
    for command in ("-t nat -F", "-t filter -F", "-t nat -X LABCTL-NETWORK"):
        node.run(f"iptables-{world.settings.flavour}", *command.split(), check=False)
    began = time.monotonic()
    async with asyncio.timeout(2.5):
        while "ProxyRulesRepaired" not in {e.reason for e in world.client.list("events", "default")}:
            await asyncio.sleep(0.01)
    assert who(await ask(world, "minion-1", address)) == {A[1], C[1]}
    await world.until(lambda: "-A LABCTL-NETWORK -s 10.246.1.0/24" in node.run(f"iptables-{world.settings.flavour}-save", "-t", "nat"))
    assert time.monotonic() - began < 3


async def test_a_lost_route_comes_back(world):
    node = place(world, "minion-1")
    for command in ("route del 10.246.2.0/24", "route del 10.247.0.0/16"):
        node.batch(command)
        await world.until(lambda: {"10.246.2.0/24", "10.247.0.0/16"} <= set(node.run("ip", "route").split()), deadline_s=2.5)
    node.batch("link set eth0 down", "link set eth0 up")
    await world.until(lambda: {"10.246.2.0/24", "10.247.0.0/16"} <= set(node.run("ip", "route").split()), deadline_s=2.5)


@pytest.mark.parametrize("world", [USERSPACE], indirect=True)
async def test_the_forwarder_is_for_translated_connections_only(world):
    await world.service("web")
    await world.endpoints("web", A)
    await world.settled()
    port = world.proxy.table["default/web"][0].local_port
    assert who(await ask(world, "minion-1", await vip_of(world, "web"), times=1)) == {A[1]}
    for name in ("minion-1", "minion-2", A[1]):
        with pytest.raises(ConnectionRefusedError):
            await ask(world, name, "10.245.1.11", port, times=1)


@pytest.mark.parametrize("world", [USERSPACE], indirect=True)
async def test_a_forwarder_that_is_killed_is_replaced(world):
    await world.service("web")
    await world.endpoints("web", A)
    await world.settled()
    address = await vip_of(world, "web")
    kill_forwarders(world.helpers.program)

    def served() -> bool:
        try:
            return place(world, "minion-1").tcp(address, 80)[0] == A[1]
        except OSError:
            return False

    assert not served()
    await world.until(served, deadline_s=3)


@pytest.mark.parametrize("world", [USERSPACE], indirect=True)
async def test_the_helper_looks_on_while_a_forwarder_runs(world):
    """What it looks at must not make it wait: the next change comes at once, however long nothing was asked."""
    await world.service("web")
    await world.endpoints("web", A)
    await world.settled()
    await asyncio.sleep(1.2)  # it has looked twice
    began = time.monotonic()
    await world.endpoints("web", C)
    await world.settled()
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("world", [USERSPACE], indirect=True)
async def test_userspace_keeps_affinity_and_serves_udp(world):
    named = [{"name": "t", "port": 80}, {"name": "u", "port": 53, "protocol": "UDP"}]
    await world.service("both", ports=named, sessionAffinity="ClientIP")
    meta = {"namespace": "default", "name": "both-x", "labels": {"kubernetes.io/service-name": "both"}}
    found = [{"addresses": [a]} for _, a, _ in (A, B, C)]
    ports = [{"name": n, "port": 8080, "protocol": p} for n, p in (("t", "TCP"), ("u", "UDP"))]
    await world.client.create(
        "endpointslices.discovery.k8s.io", {"metadata": meta, "addressType": "IPv4", "endpoints": found, "ports": ports}
    )
    await world.settled()
    address = await vip_of(world, "both")
    assert len(who(await ask(world, "minion-1", address))) == 1
    answers = {(await asyncio.to_thread(place(world, A[1]).udp, address, 53))[0] for _ in range(6)}
    assert len(answers) == 1 and answers <= {A[1], B[1], C[1]}


@pytest.mark.parametrize("world", [USERSPACE], indirect=True)
async def test_the_forwarder_outlives_the_helper_and_is_found_again(world):
    await world.service("web")
    await world.endpoints("web", A)
    await world.settled()
    address = await vip_of(world, "web")
    await world.helpers.restart_helper("minion-2")
    assert who(await ask(world, "minion-2", address)) == {A[1]}, "nobody but the helper was restarted"
    await world.settled()
    await world.endpoints("web", C)
    await world.settled()
    assert who(await ask(world, "minion-2", address)) == {C[1]}
