"""Seeded storms over a few machines: whatever happens to them and to their master, what is written becomes what is, and no fault is healed unasked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from labctl.errors import ApiError, ProviderError
from labctl.providers.protocol import Power
from labctl.sim.clock import run
from tests.machines.conftest import MACHINES, Room

NAMES = ("minion-1", "minion-2")
STEPS = 40


class Storm:
    def __init__(self, room: Room, rng: Random) -> None:
        self.room = room
        self.rng = rng
        self.tokens = 0
        self.log: list[str] = []

    async def step(self) -> None:
        acts: list[Callable[[str], Awaitable[None]]] = [
            *(self.power_off, self.crash, self.reset, self.pause, self.resume, self.request, self.off, self.on),
            *(self.restart, self.refuse, self.sshd_stops, self.sshd_starts, self.cut, self.disk_fails, self.disk_works),
        ]
        act, name = self.rng.choice(acts), self.rng.choice(NAMES)
        self.log.append(f"{self.room.clock.now():.2f} {act.__name__} {name}")
        with suppress(ApiError):  # the disk refused
            await act(name)
        await asyncio.sleep(self.rng.choice((0, 0.01, 0.06, 0.3, 3)))

    async def power_off(self, name: str) -> None:
        self.room.provider.power_off(name)

    async def crash(self, name: str) -> None:
        self.room.provider.crash(name)

    async def reset(self, name: str) -> None:
        if name in self.room.provider.machines():
            with suppress(ProviderError):  # a refusal was waiting: off, and not on again
                self.room.provider.reset(name)

    async def pause(self, name: str) -> None:
        self.room.provider.pause(name)

    async def resume(self, name: str) -> None:
        self.room.provider.resume(name)

    async def request(self, name: str) -> None:
        self.tokens += 1
        await self.room.request(name, f"token-{self.tokens}")

    async def off(self, name: str) -> None:
        await self.room.client.patch(MACHINES, name, {"spec": {"power": "Off"}})

    async def on(self, name: str) -> None:
        await self.room.client.patch(MACHINES, name, {"spec": {"power": "On"}})

    async def restart(self, name: str) -> None:
        await self.disk_works(name)  # without one no master starts
        await self.room.restart()

    async def refuse(self, name: str) -> None:
        self.room.provider.refuse(name, ProviderError("not now"))

    async def sshd_stops(self, name: str) -> None:
        self.room.minions[name].host.up = False

    async def sshd_starts(self, name: str) -> None:
        self.room.minions[name].host.up = self._power(name) is Power.ON

    async def cut(self, name: str) -> None:
        if self.room.remote.connected(name):
            self.room.remote.cut(name)

    async def disk_fails(self, name: str) -> None:
        self.room.engine.fail = 0.7

    async def disk_works(self, name: str) -> None:
        self.room.engine.fail = 0.0

    async def calm(self) -> None:
        """Nothing breaks any more, and everything is asked for: it must come true."""
        for name in NAMES:
            await self.resume(name)
            await self.request(name)
            await self.sshd_starts(name)

    def _power(self, name: str) -> Power | None:
        machine = self.room.provider.machines().get(name)
        return machine.power if machine else None


@pytest.mark.parametrize("seed", range(60))
def test_a_storm_passes(tmp_path: Path, seed: int) -> None:
    async def main() -> None:
        room = await Room(tmp_path).start()
        storm = Storm(room, Random(seed))
        try:
            for number in (1, 2):
                await room.up(number)
            for _ in range(STEPS):
                await storm.step()
            await storm.disk_works("")
            await room.quiet()
            written_is_what_is(room)
            for _ in range(STEPS):  # a refusal may be waiting for each of the last requests
                await storm.calm()
                await room.quiet()
                if all((m := room.machine(name)) and m.status.phase == "Ready" for name in NAMES):
                    break
            for name in NAMES:
                await room.phase(name, "Ready")
            written_is_what_is(room)
            for name in NAMES:
                assert room.minions[name].stamp, "its agent runs"
        except (AssertionError, ApiError, TimeoutError) as error:
            raise AssertionError(f"seed {seed}: {error}\n" + "\n".join(storm.log)) from error
        finally:
            await room.stop()

    run(main())


def written_is_what_is(room: Room) -> None:
    real = room.provider.machines()
    for name in NAMES:
        machine = room.machine(name)
        assert machine is not None
        power = real[name].power if name in real else Power.OFF
        assert machine.status.power in (power, "" if name not in real else power), (name, machine.status, power)
        if power is not Power.OFF:
            assert machine.status.boot_id == real[name].boot_id, (name, machine.status)


@pytest.mark.parametrize("seed", range(10))
def test_no_fault_is_healed_unasked(tmp_path: Path, seed: int) -> None:
    """Only a request, or Off and On again, boots a machine that died."""

    async def main() -> None:
        room = await Room(tmp_path).start()
        storm = Storm(room, Random(seed))
        try:
            await room.up(1)
            await room.up(2)
            await room.phase("minion-1", "Ready")
            room.provider.power_off("minion-1")
            acts = (storm.restart, storm.sshd_starts, storm.pause, storm.resume, storm.on, storm.cut)
            for _ in range(STEPS):
                await storm.rng.choice(acts)("minion-1")
                await asyncio.sleep(storm.rng.choice((0, 0.01, 0.3)))
                assert room.provider.machines()["minion-1"].power is Power.OFF
            assert (await room.phase("minion-1", "Off")).status.boot_id == "boot-minion-1-1"
        finally:
            await room.stop()

    run(main())
