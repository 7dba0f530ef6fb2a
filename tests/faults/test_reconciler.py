"""Faults are done, healed, refused and never forgotten, also by masters that are killed at any step."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from labctl.errors import ProviderError
from labctl.faults.deed import Site
from labctl.faults.deeds import builtin
from labctl.faults.deeds.power import Reset
from labctl.faults.reconciler import FaultSettings
from labctl.providers.protocol import Power
from labctl.resources.kinds.labctl_internal_v1.fault import Fault
from labctl.resources.plurals import FAULTS
from tests.faults.conftest import FaultRoom, Play


def power(room: FaultRoom, name: str = "minion-1") -> Power:
    return room.provider.machines()[name].power


async def ready(room: FaultRoom) -> None:
    await room.phase(await room.up(1), "Ready")


def test_a_power_off_is_done_and_healed_after_its_duration(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)
        await room.create("power-off", "minion-1", duration="30s")
        fault = await room.fault_in("Active")
        assert power(room) is Power.OFF
        assert fault.status.done == ("the power of minion-1 was cut",)
        assert fault.status.undo == {"bootID": "boot-minion-1-1"}
        fault = await room.fault_in("Healed")
        lasted = fault.status.healed_monotonic - fault.status.injected_monotonic
        assert 30 <= lasted < 30.5 and fault.status.message == "its 30s were over"
        await room.phase("minion-1", "Ready")
        assert room.said() == ["injected: the power of minion-1 was cut", "healed: minion-1 has power again, and boots"]
        events = [event for event in room.client.list("events") if event.reason in ("FaultInjected", "FaultHealed")]
        assert {(event.involved_object.kind, event.reason) for event in events} == {
            (kind, reason) for kind in ("Fault", "Machine", "Node") for reason in ("FaultInjected", "FaultHealed")
        }

    play(story)


def test_it_lasts_until_it_is_healed(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)
        await room.create("pause", "minion-1")
        await room.fault_in("Active")
        await room.quiet()
        assert power(room) is Power.PAUSED
        await room.heal()
        await room.fault_in("Healed")
        assert power(room) is Power.ON

    play(story)


def test_a_deleted_fault_goes_when_it_is_healed(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)
        await room.create("pause", "minion-1")
        await room.fault_in("Active")
        await room.client.delete(FAULTS, "one")
        await room.until(lambda: room.fault() is None)
        assert power(room) is Power.ON

    play(story)


def test_a_duration_may_be_changed_while_it_lasts(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)
        await room.create("pause", "minion-1", duration="1h")
        await room.fault_in("Active")
        await room.client.patch(FAULTS, "one", {"spec": {"duration": "2s"}})
        await room.fault_in("Healed")

    play(story)


def test_a_reset_happens_once(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)
        await room.create("reset", "minion-1")
        await room.fault_in("Healed")
        await room.quiet()
        assert room.provider.machines()["minion-1"].boot_id == "boot-minion-1-2"

    play(story)


def test_a_machine_that_is_booted_otherwise_ends_its_fault(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)
        await room.create("power-off", "minion-1")
        await room.fault_in("Active")
        await room.phase("minion-1", "Off")
        await room.request("minion-1", "again")
        fault = await room.fault_in("Healed")
        assert fault.status.message == "minion-1 was booted again"

    play(story)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"type_": "power-off", "target": "minion-7"}, "there is no machine minion-7: there are minion-1"),
        ({"type_": "pause", "target": "minion-1"}, "fault before (pause on minion-1) is at work there already; heal it first"),
    ],
)
def test_what_can_not_be_done_is_refused_before_anything_is_touched(play: Play, spec: dict[str, str], why: str) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)
        await room.create("pause", "minion-1", "before")
        await room.fault_in("Active", "before")
        await room.create(**spec)
        fault = await room.fault_in("Refused")
        assert fault.status.message == why
        assert not fault.status.injected_at and not fault.status.undo
        await room.client.delete(FAULTS, "one")
        await room.until(lambda: room.fault() is None)

    play(story)


def test_a_fault_on_a_machine_that_is_off_is_refused(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)
        await room.client.patch("machines.labctl.internal", "minion-1", {"spec": {"power": "Off"}})
        await room.phase("minion-1", "Off")
        await room.create("pause", "minion-1")
        assert (await room.fault_in("Refused")).status.message == "minion-1 is off"

    play(story)


def test_of_two_at_one_moment_the_second_is_refused(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)
        await room.create("pause", "minion-1", "a")
        await room.create("pause", "minion-1", "b")
        await room.fault_in("Active", "a")
        await room.fault_in("Refused", "b")

    play(story)


def test_the_oldest_ended_faults_are_removed(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)
        room.faults._settings = FaultSettings(ended_keep=3)
        for number in range(6):
            await room.create("reset", "minion-7", f"fault-{number}")
            await room.fault_in("Refused", f"fault-{number}")
        await room.until(lambda: [f.name for f in room.client.list(FAULTS)] == ["fault-3", "fault-4", "fault-5"])

    play(story)


def test_more_faults_than_the_bound_are_refused(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)
        room.faults._settings = FaultSettings(unfinished_max=1)
        await room.create("pause", "minion-1", "a")
        await room.fault_in("Active", "a")
        await room.create("power-off", "minion-1", "b")
        assert "1 faults are at work already" in (await room.fault_in("Refused", "b")).status.message

    play(story)


KILLS = range(1, 11)
"""Before and after each of five writes of a Fault: Injecting, Active, Healing, Healed, and the end of its object."""


@pytest.mark.parametrize("at", KILLS)
@pytest.mark.parametrize("type_", ["power-off", "pause", "reset"])
def test_a_master_that_is_killed_at_any_step_forgets_no_fault(play: Play, type_: str, at: int) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)
        timed = {} if type_ == "reset" else {"duration": "5s"}
        room.points.passed = 0
        await room.create(type_, "minion-1", **timed)
        for _ in range(600):
            fault = room.fault()
            if fault is None or room.points.reached.is_set():
                break
            if fault.phase == "Healed" and not fault.metadata.deletion_timestamp:
                await room.client.delete(FAULTS, "one")
            await room.quiet_a_moment()
        if room.points.reached.is_set():
            await room.restart()
            fault = room.fault()
            if fault is not None and fault.metadata.deletion_timestamp is None:
                await room.fault_in("Healed")
                await room.client.delete(FAULTS, "one")
        await room.until(lambda: room.fault() is None)
        await room.phase("minion-1", "Ready")
        await room.quiet()
        machine = room.provider.machines()["minion-1"]
        assert machine.power is Power.ON
        assert machine.boot_id == ("boot-minion-1-1" if type_ == "pause" else "boot-minion-1-2"), "it was done once"

    play(story, at)


def test_what_is_overdue_after_a_restart_is_healed_at_once(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)
        await room.create("pause", "minion-1", duration="10s")
        await room.fault_in("Active")
        await room.stop()
        await room.quiet()
        assert power(room) is Power.PAUSED
        await room.start()
        fault = await room.fault_in("Healed")
        assert fault.status.message == "its 10s were over"
        assert power(room) is Power.ON

    play(story)


async def refuses_to_resume(room: FaultRoom, times: int, error: Exception, name: str = "minion-1") -> list[float]:
    """Lets the provider fail to resume this machine so often; the list gets the time of each try."""
    tries: list[float] = []
    resume = room.provider.resume

    def broken(machine: str) -> None:
        if machine == name:
            tries.append(room.clock.now())
            if len(tries) <= times:
                raise error
        resume(machine)

    room.provider.resume = broken  # type: ignore[method-assign]
    return tries


@pytest.mark.parametrize("error", [ProviderError("the freezer does not thaw"), ZeroDivisionError("a mistake of ours")])
def test_healing_that_keeps_failing_is_told_and_tried_again_and_stops_no_other(play: Play, error: Exception) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)
        await room.phase(await room.up(2), "Ready")
        tries = await refuses_to_resume(room, 12, error)
        await room.create("pause", "minion-1", duration="5s")
        await room.create("pause", "minion-2", "other", duration="6s")
        await room.fault_in("Active")
        await room.until(lambda: len(tries) >= 9)
        fault = room.fault()
        assert fault and fault.phase == "Healing"
        assert fault.status.message == f"healing it failed, and is tried again: {error}"
        assert fault.status.reason_to_heal == "its 5s were over"
        assert [(each.type, each.status) for each in fault.status.conditions] == [("Stuck", "True")]
        await room.fault_in("Healed", "other")
        fault = await room.fault_in("Healed")
        assert fault.status.message == "its 5s were over" and not fault.stuck
        pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
        assert min(pauses) > 0.04 and max(pauses) > 9, "it waits longer and longer, and its own words do not wake it"
        told = [event for event in room.client.list("events") if event.reason == "FaultStuck"]
        assert {event.involved_object.kind for event in told} == {"Fault", "Machine", "Node"}
        assert all(event.count <= 1 for event in told)

    play(story)


def test_a_reason_to_heal_survives_a_master_that_is_killed_while_healing_fails(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)
        tries = await refuses_to_resume(room, 3, ProviderError("the freezer does not thaw"))
        await room.create("pause", "minion-1", duration="5s")
        await room.until(lambda: len(tries) == 2)
        await room.restart()
        assert (await room.fault_in("Healed")).status.message == "its 5s were over"

    play(story)


def test_a_deed_that_has_a_mistake_is_undone_and_failed(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)

        def broken(_name: str) -> None:
            raise ZeroDivisionError("a mistake of ours")

        room.provider.pause = broken  # type: ignore[method-assign]
        await room.create("pause", "minion-1")
        assert (await room.fault_in("Failed")).status.message == "it could not be done: a mistake of ours"

    play(story)


def test_a_fault_that_is_tried_for_long_keeps_no_other_waiting(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)
        await room.phase(await room.up(2), "Ready")
        deed = Slow()
        room.deeds = lambda: {**builtin(), "reset": deed}  # type: ignore[method-assign]
        room.faults._deeds = room.deeds
        await room.create("reset", "minion-1", "slow")
        await room.until(lambda: deed.begun)
        await room.create("pause", "minion-2")
        await room.fault_in("Active")
        assert room.fault("slow").phase == "Pending"  # type: ignore[union-attr]
        deed.go.set()
        await room.fault_in("Refused", "slow")

    play(story)


class Slow(Reset):
    """A deed whose probe waits for a machine that does not answer."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = False

    async def probe(self, fault: Fault, site: Site) -> str:
        self.begun = True
        await self.go.wait()
        return "it does not answer"
