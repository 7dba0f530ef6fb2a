"""The master's rooms, wired, with machines that don't exist: what fails at its start or while it runs, and what it says of that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.certificates import Authority
from labctl.clock import SystemClock
from labctl.errors import ProviderError
from labctl.images.images import Images
from labctl.journal import MemoryJournal
from labctl.master.master import Master, Tools
from labctl.master.settings import MasterSettings, Values
from labctl.paths import Paths
from labctl.sim.machines import FakeProvider
from labctl.sim.remote import FakeRemote
from labctl.store.memory import memory_store

SOON_S = 10.0


class FailingProvider(FakeProvider):
    """`failures` names methods that fail, once for each time they are named."""

    def __init__(self, *failures: str) -> None:
        super().__init__()
        self.failures = list(failures)

    def _fail(self, method: str) -> None:
        if method in self.failures:
            self.failures.remove(method)
            raise ProviderError(f"{method}: the host is out of memory")

    def uplink(self, port: int) -> Any:
        self._fail("uplink")
        return super().uplink(port)

    def machines(self) -> Any:
        self._fail("machines")
        return super().machines()

    def watch(self, tell: Any) -> Any:
        self._fail("watch")
        return super().watch(tell)


class Remote(FakeRemote):
    """A FakeRemote with what the master asks of an SSH process besides."""

    def enter(self, network_namespace: str) -> None: ...
    def reverse(self, there: int, here: int) -> None: ...
    async def start(self) -> None: ...


def make(folder: Path, provider: FakeProvider) -> Master:
    clock = SystemClock()
    paths = Paths(folder / ".labctl", folder / "state", folder / "cache")
    settings = MasterSettings("lab", paths, Values(provider="fake"))
    tools = Tools(provider, Remote(), Authority.create(folder / "pki"), "ssh-ed25519 AAAA lab", Images(paths))  # type: ignore[arg-type]
    return Master(settings, memory_store(), clock, MemoryJournal(clock), tools=tools)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(SOON_S):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("failures", [("uplink",), ("uplink", "uplink", "machines", "watch"), ("machines",), ("watch",)])
async def test_a_provider_that_fails_when_the_master_starts_is_tried_again(tmp_path: Path, failures: tuple[str, ...]) -> None:
    provider = FailingProvider(*failures)
    master = make(tmp_path, provider)
    await master.start()
    try:
        master.run_machines()
        spec = {"provider": "fake", "number": 1, "memory": "1Gi", "cpus": "1", "power": "On"}
        await master.client.create("machines.labctl.internal", {"metadata": {"name": "minion-1"}, "spec": spec})
        await until(lambda: master.client.get("machines.labctl.internal", "minion-1").status.power == "On")
        assert not provider.failures
        told = [line.text for line in master.journal.lines if line.about == "task/machines-start"]
        assert len(told) == len(failures) and "the host is out of memory" in told[0]
        [health] = [one for one in master.supervisor.health() if one.name == "machines-start"]
        assert (health.state, health.restarts) == ("ended", len(failures))
    finally:
        await master.stop()


async def test_a_provider_that_never_works_makes_the_master_unready_and_says_why(tmp_path: Path) -> None:
    master = make(tmp_path, FailingProvider(*["uplink"] * 1000))
    await master.start()
    try:
        master.run_machines()
        await until(master.supervisor.trouble)
        wrong = {check.name: check.look() for check in master._checks() if check.look()}
        assert list(wrong) == ["task/machines-start"] and "the host is out of memory" in wrong["task/machines-start"]
        assert not [check for check in master._checks() if check.live and check.look()], "a restart would not help"
    finally:
        await master.stop()
