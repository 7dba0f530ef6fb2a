"""A master's proxy and network on a real store and runner, with fake helpers for minions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from random import Random
from typing import Any, cast

import pytest

from labctl.clock import SystemClock
from labctl.journal import MemoryJournal
from labctl.network.announce import Announcer
from labctl.network.network import Network
from labctl.proxy.chains import digest, parse
from labctl.proxy.proxy import Proxy
from labctl.proxy.rules import Facts, rules
from labctl.proxy.settings import ProxySettings
from labctl.reconcile.runner import Runner
from labctl.resources.client import Client
from labctl.resources.events import Recorder
from labctl.resources.registry import builtin_registry
from labctl.resources.resources import Resources
from labctl.sim.helpers import FakeHelpers
from labctl.store.memory import memory_store


class World:
    """`until` waits for a condition with a deadline; nothing sleeps for a fixed time."""

    def __init__(self, settings: ProxySettings, helpers: Any = None) -> None:
        clock = SystemClock()
        self.journal = MemoryJournal(clock)
        self.resources = Resources(memory_store(), builtin_registry(), clock, self.journal, Random(1))
        self.client = Client(self.resources)
        self.helpers = cast(Any, helpers or FakeHelpers())
        self.settings = settings
        self.events = Recorder(self.client, "proxy", clock)
        self.proxy = Proxy(self.helpers, self.client, self.events, self.journal, clock, settings)
        self.network = Network(self.helpers, self.journal, clock)
        self.announcer = Announcer(self.helpers, self.journal, clock, "10.245.1.224/27")
        recorder = lambda component: Recorder(self.client, component, clock)  # noqa: E731
        followers = [*self.proxy.followers, self.network, self.announcer]
        self.runner = Runner(self.resources, self.client, recorder, followers, clock, self.journal, Random(2))
        self.helpers.listen(self.announcer.notified)
        self.helpers.listen(self.proxy.notified)
        self.helpers.listen(self.network.notified)

    async def start(self) -> None:
        await self.client.create("namespaces", {"metadata": {"name": "default"}})
        await self.runner.start()
        await self.proxy.start()
        await self.network.start()
        await self.announcer.start()

    async def stop(self) -> None:
        await self.announcer.stop()
        await self.proxy.stop()
        await self.network.stop()
        await self.runner.stop()
        await self.events.close()

    async def minion(self, number: int, boot_id: str = "boot-1"):
        name = f"minion-{number}"
        helper = self.helpers.add(name) if isinstance(self.helpers, FakeHelpers) else await self.helpers.add(number)
        await self.client.create("nodes", {"metadata": {"name": name}, "spec": {"podCIDR": f"10.246.{number}.0/24"}})
        status = {"addresses": [{"type": "InternalIP", "address": f"10.245.1.{10 + number}"}], "nodeInfo": {"bootID": boot_id}}
        await self.client.patch("nodes", name, {"status": status}, "status")
        return helper

    async def service(self, name: str, **spec):
        spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]} | spec
        return await self.client.create("services", {"metadata": {"namespace": "default", "name": name}, "spec": spec})

    async def endpoints(self, name: str, *pods: tuple[str, str, str], zones: Sequence[str] = ()):
        """Each (pod, address, node); no pod: an address by itself. With `zones`, each is for clients of the zone at its place."""
        found = [
            {
                "addresses": [address],
                "conditions": {"ready": True},
                "nodeName": node,
                "targetRef": {"kind": "Pod", "namespace": "default", "name": pod},
            }
            for pod, address, node in pods
        ]
        for each, zone in zip(found, zones, strict=False):
            each["hints"] = {"forZones": [{"name": zone}]}
        meta = {"namespace": "default", "name": f"{name}-x", "labels": {"kubernetes.io/service-name": name}}
        slice_ = {"metadata": meta, "addressType": "IPv4", "endpoints": found, "ports": [{"name": "", "port": 8080, "protocol": "TCP"}]}
        if self.client.get("endpointslices.discovery.k8s.io", f"default/{name}-x"):
            return await self.client.replace("endpointslices.discovery.k8s.io", slice_)
        return await self.client.create("endpointslices.discovery.k8s.io", slice_)

    async def pod(self, name: str, node: str = "minion-1"):
        spec = {"containers": [{"name": "c", "image": "x"}], "nodeName": node}
        return await self.client.create("pods", {"metadata": {"namespace": "default", "name": name}, "spec": spec})

    def facts(self, name: str) -> Facts:
        node = self.client.get("nodes", name)
        helper = self.helpers.minions[name]
        return Facts(name, node.address(), helper.recent, userspace=self.settings.mode == "userspace")

    def right(self, name: str) -> bool:
        """Has this minion exactly the rules of the table as it is now?"""
        return digest(parse(self.helpers.minions[name].dump())) == digest(rules(self.proxy.table, self.facts(name)))

    async def until(self, condition: Callable[[], bool], what: str = "", deadline_s: float = 5.0) -> None:
        async with asyncio.timeout(deadline_s):
            while not condition():
                await asyncio.sleep(0.002)

    async def settled(self) -> None:
        await self.until(lambda: self.runner.idle and self.proxy.idle and self.network.idle and self.announcer.idle)


@pytest.fixture
def settings() -> ProxySettings:
    """May be parametrized."""
    return ProxySettings()


@pytest.fixture
async def world(settings: ProxySettings) -> AsyncIterator[World]:
    made = World(settings)
    await made.start()
    yield made
    await made.stop()
