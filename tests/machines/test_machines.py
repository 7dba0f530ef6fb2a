"""The life of machines: booted, joined, ended by intent or by itself, booted again, destroyed; and masters that die in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from labctl.errors import ProviderError
from labctl.machines.decide import FINALIZER
from labctl.machines.zipapp import Agent
from labctl.sim.clock import run
from tests.machines.conftest import MACHINES, FakeAgent, Room

Play = Callable[[Callable[[Room], Awaitable[None]]], None]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Play a story in virtual time."""

    def play(story: Callable[[Room], Awaitable[None]]) -> None:
        async def main() -> None:
            room = await Room(tmp_path).start()
            try:
                await story(room)
            finally:
                await room.stop()

        run(main())

    return play


def test_a_machine_becomes_a_node(play: Play) -> None:
    async def story(room: Room) -> None:
        machine = await room.phase(await room.up(3), "Ready")
        assert machine.metadata.finalizers == (FINALIZER,)
        assert (machine.status.power, machine.status.boot_id, machine.status.address) == ("On", "boot-minion-3-1", "10.245.1.13")
        assert machine.joined
        node = await room.until(lambda: (node := room.client.get("nodes", "minion-3")) and node.spec.pod_cidr and node)
        assert node.spec.pod_cidrs == ("10.246.3.0/24",)
        assert room.minions["minion-3"].starts == 1

    play(story)


def test_ten_are_joined_side_by_side(play: Play) -> None:
    async def story(room: Room) -> None:
        begun = room.clock.now()
        for number in range(1, 11):
            await room.up(number)
        for number in range(1, 11):
            await room.phase(f"minion-{number}", "Ready")
        assert room.clock.now() - begun < 1.0

    play(story)


def test_the_plug_is_pulled_and_it_stays_off(play: Play) -> None:
    """labctl must not heal a fault that somebody made to look at."""

    async def story(room: Room) -> None:
        name = await room.up()
        await room.phase(name, "Ready")
        room.provider.power_off(name)
        machine = await room.phase(name, "Off")
        event = machine.status.last_event
        assert event and (event.power, event.boot_id, event.intended) == ("Off", "boot-minion-1-1", False)
        assert "labctl up" in machine.status.message and not machine.joined
        assert not room.remote.connected(name)
        await room.quiet()
        machine = room.machine(name)
        assert machine and machine.status.power == "Off" and machine.spec.power == "On"
        assert room.events("PoweredOff") == ["its power was cut"]
        await room.request(name, "token")
        machine = await room.phase(name, "Ready")
        assert (machine.status.boot_id, machine.status.observed_boot_request) == ("boot-minion-1-2", "token")
        assert room.minions[name].starts == 2

    play(story)


def test_an_end_is_written_at_once(play: Play) -> None:
    """Also while the worker waits for SSH: the node controller fences on it."""

    async def story(room: Room) -> None:
        name = await room.up()
        await room.phase(name, "Joining")
        room.provider.crash(name)
        begun = room.clock.now()
        await room.phase(name, "Off")
        assert room.clock.now() - begun < 0.1

    play(story)


def test_wanted_off_is_no_failure(play: Play) -> None:
    async def story(room: Room) -> None:
        name = await room.up()
        await room.phase(name, "Ready")
        await room.client.patch(MACHINES, name, {"spec": {"power": "Off"}})
        machine = await room.phase(name, "Off")
        assert machine.status.last_event and machine.status.last_event.intended
        assert room.events("PoweredOff") == []
        await room.client.patch(MACHINES, name, {"spec": {"power": "On"}})  # no request needed
        assert (await room.phase(name, "Ready")).status.boot_id == "boot-minion-1-2"

    play(story)


def test_a_machine_that_is_made_off_stays_off(play: Play) -> None:
    async def story(room: Room) -> None:
        name = await room.up(power="Off")
        await room.phase(name, "Off")
        await room.quiet()
        assert room.provider.machines() == {}

    play(story)


def test_what_nobody_foresaw_is_tried_ever_less_often(play: Play) -> None:
    """Each try writes a status, and the worker sees its own writing: that wakes it from no pause."""

    async def story(room: Room) -> None:
        room.provider.refuse("minion-1", *(ZeroDivisionError("a mistake of ours") for _ in range(6)))  # type: ignore[arg-type]
        name = await room.up()
        for number in range(100):
            await asyncio.sleep(0.05)
            await room.client.patch(MACHINES, name, {"status": {"message": f"try {number}"}}, "status")
        machine = room.machine(name)
        assert machine and machine.status.phase != "Ready", "0.1 + 0.2 + 0.4 + 0.8 + 1.6 + 3.2 s have not passed, only 5"
        await room.phase(name, "Ready")

    play(story)


def test_a_boot_that_fails_says_why_and_is_tried_when_asked(play: Play) -> None:
    async def story(room: Room) -> None:
        room.provider.refuse("minion-1", ProviderError("no room on the disk", mend="make some"))
        name = await room.up()
        machine = await room.phase(name, "Failed")
        assert machine.status.message == "no room on the disk: make some"
        await room.until(lambda: room.events("FailedBoot"))
        await room.quiet()
        assert room.provider.machines() == {}
        await room.request(name, "again")
        assert (await room.phase(name, "Ready")).status.message == ""

    play(story)


def test_another_providers_machine_fails(play: Play) -> None:
    async def story(room: Room) -> None:
        machine = await room.phase(await room.up(provider="vagrant"), "Failed")
        assert machine.status.message == "minion-1: its provider is vagrant, this lab's is fake"

    play(story)


def test_another_host_key_is_refused_with_the_reason(play: Play) -> None:
    async def story(room: Room) -> None:
        name = await room.up()
        room.minions[name].host.host_key = "ssh-ed25519 SOMEBODY-ELSE"
        machine = await room.phase(name, "Failed")
        assert "another SSH host key" in machine.status.message
        await room.quiet()
        assert len(room.events("FailedJoin")) == 1
        assert room.minions[name].starts == 0
        room.minions[name].host.host_key = "ssh-ed25519 FAKE-minion-1"
        await room.request(name, "again")
        await room.phase(name, "Ready")

    play(story)


def test_a_machine_that_lacks_a_package_says_which(play: Play) -> None:
    async def story(room: Room) -> None:
        name = await room.up()
        room.minions[name].lacks = ["crun", "conmon"]
        machine = await room.phase(name, "Failed")
        assert "lacks crun, conmon" in machine.status.message

    play(story)


def test_a_sshd_that_comes_late_is_waited_for(play: Play) -> None:
    async def story(room: Room) -> None:
        name = await room.up()
        room.minions[name].sshd_comes_late = True
        await room.until(lambda: room.events("FailedJoin"))
        room.minions[name].host.up = True
        await room.phase(name, "Ready")

    play(story)


def test_a_reset_is_joined_like_a_first_boot(play: Play) -> None:
    async def story(room: Room) -> None:
        name = await room.up()
        await room.phase(name, "Ready")
        room.provider.reset(name)
        await room.until(lambda: room.minions[name].starts == 2)
        machine = await room.phase(name, "Ready")
        assert machine.status.boot_id == "boot-minion-1-2"

    play(story)


def test_a_pause_is_seen_and_changes_nothing_else(play: Play) -> None:
    async def story(room: Room) -> None:
        name = await room.up()
        await room.phase(name, "Ready")
        room.provider.pause(name)
        await room.until(lambda: (m := room.machine(name)) and m.status.power == "Paused")
        await room.quiet()
        room.provider.resume(name)
        machine = await room.until(lambda: (m := room.machine(name)) and m.status.power == "On" and m)
        assert machine.status.phase == "Ready"
        assert room.minions[name].starts == 1

    play(story)


@pytest.mark.parametrize("slept", ["the machine", "the host"])
def test_a_clock_that_stood_still_is_set_and_the_agent_left_alone(tmp_path: Path, slept: str) -> None:
    async def story() -> None:
        room = await Room(tmp_path, own_clocks=True).start()
        name = await room.up()
        await room.phase(name, "Ready")
        minion = room.minions[name]
        assert len(minion.clock_set) == 1, "it had none at its first boot"
        await asyncio.sleep(3600)
        assert len(minion.clock_set) == 1, "nobody asks without a cause"
        if slept == "the machine":
            room.provider.pause(name)
            room.provider.resume(name)
        else:
            room.machines.awake()
        await room.until(lambda: len(minion.clock_set) == 2)
        assert abs(minion.wall_s - room.clock.wall()) < 1 and minion.starts == 1
        assert any("its clock was 36" in line.text and "behind" in line.text for line in room.journal.lines)
        room.machines.awake()
        await asyncio.sleep(0.5)
        assert len(minion.clock_set) == 2, "it is right"
        await room.stop()

    run(story())


def test_the_clock_of_a_machine_that_has_the_hosts_is_nobodys_to_set(play: Play) -> None:
    async def story(room: Room) -> None:
        name = await room.up()
        await room.phase(name, "Ready")
        room.machines.awake()
        await room.quiet()
        assert room.minions[name].clock_set == []

    play(story)


def test_destroyed_with_its_node(play: Play) -> None:
    async def story(room: Room) -> None:
        name = await room.up()
        await room.phase(name, "Ready")
        await room.client.delete(MACHINES, name)
        await room.until(lambda: room.machine(name) is None)
        assert room.provider.machines() == {}
        assert room.client.get("nodes", name) is None
        assert not room.remote.connected(name)
        await room.up()  # the same name again
        await room.phase(name, "Ready")

    play(story)


def test_a_new_master_finds_nothing_to_do(play: Play) -> None:
    async def story(room: Room) -> None:
        name = await room.up()
        before = await room.phase(name, "Ready")
        await room.restart()
        await room.until(lambda: room.remote.connected(name))
        await room.quiet()
        assert room.minions[name].starts == 1
        after = room.machine(name)
        assert after and after.metadata.resource_version == before.metadata.resource_version

    play(story)


def test_a_new_agent_is_pushed_once(play: Play) -> None:
    async def story(room: Room) -> None:
        name = await room.up()
        await room.phase(name, "Ready")
        room.agent = FakeAgent(b"version-2")
        await room.restart()
        await room.until(lambda: room.minions[name].starts == 2)
        assert f"opt/labctl/{room.agent.file}" in room.minions[name].pushed[1]
        assert room.remote.helper_resets == [name]
        await room.restart()
        await room.quiet()
        assert room.minions[name].starts == 2
        room.provider.reset(name)  # what its disk has is not pushed again
        await room.until(lambda: room.minions[name].starts == 3)
        assert f"opt/labctl/{room.agent.file}" not in room.minions[name].pushed[2]

    play(story)


def test_a_certificate_near_its_end_is_renewed(play: Play) -> None:
    async def story(room: Room) -> None:
        name = await room.up()
        await room.phase(name, "Ready")
        first = room.minions[name].files["etc/labctl/agent.crt"]
        room.clock.jump(340 * 86_400)
        await room.restart()
        await room.until(lambda: room.minions[name].starts == 2)
        assert room.minions[name].files["etc/labctl/agent.crt"] != first

    play(story)


@pytest.mark.parametrize("fault", ["power_off", "reset"])
def test_what_happened_while_no_master_was_there(play: Play, fault: str) -> None:
    async def story(room: Room) -> None:
        name = await room.up()
        await room.phase(name, "Ready")
        await room.stop()
        getattr(room.provider, fault)(name)
        await room.start()
        if fault == "power_off":
            machine = await room.phase(name, "Off")
            assert machine.status.last_event and machine.status.last_event.boot_id == "boot-minion-1-1"
            assert not machine.status.last_event.intended
            await room.quiet()
            assert room.minions[name].starts == 1
        else:
            await room.until(lambda: room.minions[name].starts == 2)
            await room.quiet()
            assert (await room.phase(name, "Ready")).status.boot_id == "boot-minion-1-2"

    play(story)


def test_a_master_that_died_while_booting_boots_again(play: Play) -> None:
    async def story(room: Room) -> None:
        name = await room.up()
        await room.phase(name, "Booting")
        await room.restart()
        await room.phase(name, "Ready")

    play(story)


def test_a_request_to_a_running_machine_is_answered(play: Play) -> None:
    async def story(room: Room) -> None:
        name = await room.up()
        await room.phase(name, "Ready")
        await room.request(name, "token")
        await room.until(lambda: (m := room.machine(name)) and m.status.observed_boot_request == "token")
        machine = room.machine(name)
        assert machine and machine.status.phase == "Ready" and machine.status.boot_id == "boot-minion-1-1"

    play(story)


def test_a_request_to_a_running_machine_joins_it_anew(play: Play) -> None:
    """What keeps its agent running may have been killed, and only the machine itself can tell."""

    async def story(room: Room) -> None:
        name = await room.up()
        await room.phase(name, "Ready")
        room.minions[name].stamp = ""  # nothing of it runs
        await room.request(name, "token")
        await room.until(lambda: room.minions[name].starts == 2)
        await room.phase(name, "Ready")

    play(story)


def test_an_agent_file_is_named_by_its_bytes() -> None:
    assert Agent(b"a").file != Agent(b"b").file
