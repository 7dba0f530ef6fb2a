"""A master's store, runner, machines and faults, on a provider in memory and in virtual time; the master may be killed at any step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from labctl.api.interference import Interference
from labctl.faults.deed import Deed, Site
from labctl.faults.deeds import builtin
from labctl.faults.reconciler import Faults, FaultSettings
from labctl.images.gate import PullGate
from labctl.machines.machines import MachineAccess, Machines, MasterServices
from labctl.machines.settings import LabFacts
from labctl.reconcile.runner import Runner
from labctl.resources.bootstrap import BootstrapSettings, ensure_bootstrap
from labctl.resources.client import Client
from labctl.resources.events import Recorder
from labctl.resources.kinds.labctl_internal_v1.fault import Fault
from labctl.resources.plurals import FAULTS
from labctl.resources.resources import Resources
from labctl.sim.clock import run
from tests.machines.conftest import Room, _at_once


class KillPoints:
    """Counts the moments at which a master may be killed. At the moment `at` the caller stands still for ever, and `reached` is set."""

    def __init__(self) -> None:
        self.at = 0
        self.passed = 0
        self.reached = asyncio.Event()

    async def here(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            self.reached.set()
            await asyncio.Event().wait()


class WatchedClient(Client):
    """A client that may be killed before and after each write of a Fault."""

    def __init__(self, resources: Resources, points: KillPoints) -> None:
        super().__init__(resources)
        self.points = points

    async def patch(self, resource: str, key: str, patch: Any, subresource: str = "", revision: int = 0) -> Any:
        if resource != FAULTS:
            return await super().patch(resource, key, patch, subresource, revision)
        await self.points.here()
        written = await super().patch(resource, key, patch, subresource, revision)
        await self.points.here()
        return written


class FaultRoom(Room):
    """A Room of machines that also has the faults. `deeds` replaces the built-in ones, `settings` the usual bounds."""

    deeds: Callable[[], Mapping[str, Deed]] = staticmethod(builtin)
    settings = FaultSettings()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.points = KillPoints()
        self.processes = 0
        self.kills = 0
        self.api = Interference(Random(4))

    async def start(self) -> FaultRoom:
        self.processes += 1
        self.api = Interference(Random(4))
        self.pulls = PullGate()  # in the memory of each process
        lab = LabFacts("https://10.245.1.1:6443", "/key", "ssh-ed25519 AAAA lab")
        access = MachineAccess(self.provider, self.remote, self.authority, lambda: self.agent, _at_once)
        services = MasterServices(self.client, self.recorder("machines"), self.journal, self.clock)
        self.machines = Machines(access, services, lab)
        self.faults = Faults(self.site, self.recorder("faults"), self.deeds, self.settings)
        followers = [*self.machines.followers, self.faults]
        self.runner = Runner(self.resources, self.client, self.recorder, followers, self.clock, self.journal, Random(2))
        await ensure_bootstrap(self.client, BootstrapSettings(address="10.245.1.1"))
        await self.runner.start()
        await self.machines.start()
        self.faults.start()
        return self

    def recorder(self, component: str) -> Recorder:
        return Recorder(self.client, component, self.clock)

    def site(self, view: Any) -> Site:
        client = WatchedClient(self.resources, self.points)
        return Site(
            view,
            client,
            self.journal,
            self.clock,
            _at_once,
            self.provider,
            self.remote,
            process=f"master-{self.processes}",
            kill_master=self._killed,
            master_address="10.245.1.1",
            api=self.api,
            pulls=self.pulls,
        )

    def _killed(self) -> None:
        self.kills += 1

    async def stop(self) -> None:
        await self.faults.stop()
        await super().stop()

    async def create(self, type_: str, target: str, name: str = "one", **spec: Any) -> str:
        await self.client.create(FAULTS, {"metadata": {"name": name}, "spec": {"type": type_, "target": target, **spec}})
        return name

    async def heal(self, name: str = "one") -> None:
        await self.client.patch(FAULTS, name, {"spec": {"heal": True}})

    async def quiet_a_moment(self) -> None:
        await asyncio.sleep(0.05)

    def fault(self, name: str = "one") -> Fault | None:
        found: Fault | None = self.client.get(FAULTS, name)
        return found

    async def fault_in(self, phase: str, name: str = "one") -> Fault:
        try:
            found: Fault = await self.until(lambda: (f := self.fault(name)) and f.phase == phase and f)
        except TimeoutError:
            raise AssertionError(f"{self.fault(name)}\n" + "\n".join(line.text for line in self.journal.lines)) from None
        return found

    def said(self, name: str = "one") -> list[str]:
        return [line.text for line in self.journal.lines if line.about == f"{FAULTS}/{name}"]


Play = Callable[[Callable[[FaultRoom], Awaitable[None]]], None]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Play a story in virtual time."""

    def play(story: Callable[[FaultRoom], Awaitable[None]], at: int = 0) -> None:
        async def main() -> None:
            room = FaultRoom(tmp_path)
            await room.start()
            room.points.at = at
            try:
                await story(room)
            finally:
                await room.stop()

        run(main())

    return play
