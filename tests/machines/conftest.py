"""A master's store, runner and machines room, on a provider and a Remote in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from labctl.certificates import Authority
from labctl.errors import ApiError
from labctl.journal import MemoryJournal
from labctl.machines.machines import MachineAccess, Machines, MasterServices
from labctl.machines.settings import LabFacts
from labctl.machines.zipapp import Agent
from labctl.providers.protocol import MachineEvent, Power
from labctl.reconcile.runner import Runner
from labctl.resources.bootstrap import BootstrapSettings, ensure_bootstrap
from labctl.resources.client import Client
from labctl.resources.events import Recorder
from labctl.resources.kinds.labctl_internal_v1.machine import BOOT_REQUEST, Machine
from labctl.resources.registry import builtin_registry
from labctl.resources.resources import Resources
from labctl.sim.clock import VirtualClock
from labctl.sim.engine import FaultyEngine
from labctl.sim.machines import FakeProvider
from labctl.sim.remote import FakeRemote
from labctl.store.log import LogStore
from labctl.store.settings import StoreSettings
from tests.machines.minion import Minion

MACHINES = "machines.labctl.internal"
SOON_S = 60.0


class FakeAgent(Agent):
    """One whose bytes are its own hash: that is what a Minion says it has."""

    @property
    def hash(self) -> str:
        return self.data.decode()


class Room:
    """One master's part; `restart` is its death and its next start."""

    def __init__(self, folder: Path, *, own_clocks: bool = False) -> None:
        self.clock = VirtualClock()
        self.journal = MemoryJournal(self.clock)
        self.engine = FaultyEngine(Random(3))
        self.store = LogStore(self.engine, StoreSettings())
        self.resources = Resources(self.store, builtin_registry(), self.clock, self.journal, Random(1))
        self.client = Client(self.resources)
        self.provider = FakeProvider(own_clocks=own_clocks)
        self.authority = Authority.create(folder, clock=self.clock)
        self.minions: dict[str, Minion] = {}
        self.agent = FakeAgent(b"version-1")
        self.remote = FakeRemote()
        self._registrations: set[asyncio.Task[None]] = set()
        self.provider.watch(self._powered)

    async def start(self) -> Room:
        clock, recorder = self.clock, lambda component: Recorder(self.client, component, self.clock)
        lab = LabFacts("https://10.245.1.1:6443", "/key", "ssh-ed25519 AAAA lab")
        access = MachineAccess(self.provider, self.remote, self.authority, lambda: self.agent, _at_once)
        self.machines = Machines(access, MasterServices(self.client, recorder("machines"), self.journal, clock), lab)
        self.runner = Runner(self.resources, self.client, recorder, self.machines.followers, clock, self.journal, Random(2))
        await ensure_bootstrap(self.client, BootstrapSettings(address="10.245.1.1"))
        await self.runner.start()
        await self.machines.start()
        return self

    async def stop(self) -> None:
        await self.machines.stop()
        await self.runner.stop()
        await self.remote.close()

    async def restart(self) -> None:
        await self.stop()
        self.remote = FakeRemote(self.remote.hosts)
        await self.start()

    async def up(self, minion_number: int = 1, **spec: Any) -> str:
        """As `labctl up` makes it."""
        name = f"minion-{minion_number}"
        self.minions[name] = minion = Minion(name, self._register)
        self.remote.hosts[f"10.245.1.{10 + minion_number}"] = minion.host
        spec = {"provider": "fake", "number": minion_number, "memory": "1Gi", "cpus": "1", "power": "On", **spec}
        await self.client.create(MACHINES, {"metadata": {"name": name}, "spec": spec})
        return name

    async def request(self, name: str, token: str) -> None:
        """As `labctl up` run again does."""
        await self.client.patch(MACHINES, name, {"metadata": {"annotations": {BOOT_REQUEST: token}}, "spec": {"power": "On"}})

    def machine(self, name: str) -> Machine | None:
        return self.client.get(MACHINES, name)

    async def until(self, condition: Callable[[], Any]) -> Any:
        """In virtual time: an hour costs nothing."""
        async with asyncio.timeout(SOON_S):
            while not (found := condition()):
                await asyncio.sleep(0.01)
        return found

    async def phase(self, name: str, phase: str) -> Machine:
        try:
            return await self.until(lambda: (m := self.machine(name)) and m.status.phase == phase and m)
        except TimeoutError:
            raise AssertionError(f"{self.machine(name)}\n" + "\n".join(line.text for line in self.journal.lines)) from None

    async def quiet(self) -> None:
        """Long enough for anything that would still happen."""
        await asyncio.sleep(30)

    def events(self, reason: str) -> list[str]:
        return [event.message for event in self.client.list("events") if event.reason == reason]

    def _powered(self, event: MachineEvent) -> None:
        minion = self.minions.get(event.name)
        if minion and event.power is Power.ON:
            minion.boot(event.boot_id)
        elif minion and event.power is Power.OFF:
            minion.host.up = False
            if self.remote.connected(event.name):
                self.remote.cut(event.name)

    def _register(self, configuration: dict[str, Any]) -> None:
        task = asyncio.ensure_future(self._write_node(configuration["node"], configuration["bootID"]))
        self._registrations.add(task)
        task.add_done_callback(self._registrations.discard)

    async def _write_node(self, name: str, boot_id: str) -> None:
        """As stubborn as the real agent."""
        info = dict.fromkeys(INFO, "") | {"bootID": boot_id}
        while self.minions[name].boot_id == boot_id:
            await asyncio.sleep(0.2)
            try:
                if self.client.get("nodes", name) is None:
                    await self.client.create("nodes", {"metadata": {"name": name}})
                await self.client.patch("nodes", name, {"status": {"nodeInfo": info}}, "status")
                return
            except ApiError:
                continue


INFO = (
    *("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion"),
    *("kubeProxyVersion", "operatingSystem", "architecture"),
)


async def _at_once(work: Callable[[], Any]) -> Any:
    await asyncio.sleep(0.05)  # a thread's time
    return work()
