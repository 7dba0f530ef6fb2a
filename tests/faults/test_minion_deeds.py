"""The deeds that an agent carries out: what is refused before anything is touched, what the agent is told, and that nothing is left, whoever is killed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labctl.errors import ApiError
from labctl.faults.deeds.minion import AGENT
from labctl.images.gate import PullGate
from labctl.providers.protocol import Power
from labctl.resources.plurals import FAULTS, PODS
from labctl.sim.remote import Shell
from tests.faults.conftest import FaultRoom, Play


class FakeAgent:
    """`agent fault` of one minion: it remembers what was made, as the machine does, and forgets it when the machine boots."""

    def __init__(self, room: FaultRoom, name: str) -> None:
        self.requests: list[dict[str, Any]] = []
        self.made: set[str] = set()
        self.refuses = ""
        self.fails = ""
        self._minion = room.minions[name]
        self._boot = self._minion.boot_id
        self._python = self._minion.host.programs["python3"]
        self._minion.host.programs["python3"] = self._run

    async def _run(self, shell: Shell) -> int:
        if shell.argv != list(AGENT):
            return await self._python(shell)
        told = json.loads(await shell.read_all())
        self.requests.append(told)
        if self._minion.boot_id != self._boot:
            self._boot, self.made = self._minion.boot_id, set()
        if self.fails:
            await shell.write(f"warning\nagent fault: {self.fails}\n".encode(), 2)
            return 1
        if told["do"] == "look":
            await shell.write(json.dumps({"refused": self.refuses}).encode())
            return 0
        (self.made.add if told["do"] == "inject" else self.made.discard)(told["fault"])
        await shell.write(json.dumps({"done": [f"{told['do']} {told['type']}"]}).encode())
        return 0

    def done(self) -> list[str]:
        return [each["do"] for each in self.requests]


async def ready(room: FaultRoom, machines: int = 1) -> list[FakeAgent]:
    agents = []
    for number in range(1, machines + 1):
        await room.phase(await room.up(number), "Ready")
        agents.append(FakeAgent(room, f"minion-{number}"))
    return agents


ID = "a" * 64


async def pod(room: FaultRoom, name: str = "web", containers: tuple[str, ...] = ("app",), running: bool = True) -> None:
    spec = {"containers": [{"name": each, "image": "x"} for each in containers], "nodeName": "minion-1"}
    try:
        await room.client.create("namespaces", {"metadata": {"name": "default"}})
    except ApiError:
        pass
    await room.client.create(PODS, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})
    await state(room, name, containers, {"running": {"startedAt": "2026-01-01T00:00:00Z"}} if running else {"waiting": {"reason": "X"}})


async def state(room: FaultRoom, name: str, containers: tuple[str, ...], now: dict[str, Any], identity: str = ID) -> None:
    statuses = [
        {"name": each, "ready": True, "restartCount": 0, "image": "x", "imageID": "x", "containerID": f"crun://{identity}", "state": now}
        for each in containers
    ]
    await room.client.patch(PODS, f"default/{name}", {"status": {"phase": "Running", "containerStatuses": statuses}}, "status")


def test_the_agent_is_told_by_json_alone_which_container_is_meant(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        (agent,) = await ready(room)
        await pod(room)
        await room.create("burn-memory", "pod/default/web", parameters={"size": "80%"}, duration="30s")
        fault = await room.fault_in("Active")
        assert fault.status.done == ("minion-1: inject burn-memory",)
        look, inject = agent.requests
        assert (look["do"], inject["do"], inject["forSeconds"]) == ("look", "inject", 30)
        uid = room.client.get(PODS, "default/web").metadata.uid
        told = {"percent": 80, "uid": uid, "container": "app", "id": ID}
        assert {key: inject["parameters"][key] for key in told} == told
        await room.fault_in("Healed")
        assert agent.done() == ["look", "inject", "heal"] and not agent.made

    play(story)


REFUSED = [
    ("stop-container", "pod/default/nobody", {}, "there is no pod nobody in namespace default"),
    ("stop-container", "pod/other/web", {}, "there is no pod web in namespace other"),
    ("stop-container", "pod/default/web/db", {}, "pod web has no container db: it has app"),
    ("stop-container", "pod/default/two/c", {}, "pod two has no container c: it has a, b"),
    ("stop-container", "pod/default/waits", {}, "container app of pod waits does not run"),
    ("flush-rules", "minion-7", {}, "there is no machine minion-7: there are minion-1"),
    ("fail-pulls", "minion-7", {}, "there is no machine minion-7: there are minion-1"),
    ("kill-process", "minion-1", {"process": "ssh"}, "ssh is a process of the master: kill it with the target master"),
]


@pytest.mark.parametrize(("type_", "target", "parameters", "why"), REFUSED)
def test_what_can_not_be_done_is_refused_before_anything_is_touched(
    play: Play, type_: str, target: str, parameters: dict[str, str], why: str
) -> None:
    async def story(room: FaultRoom) -> None:
        (agent,) = await ready(room)
        await pod(room)
        await pod(room, "two", ("a", "b"))
        await pod(room, "waits", running=False)
        await room.create(type_, target, parameters=parameters)
        assert (await room.fault_in("Refused")).status.message == why
        assert agent.requests == []

    play(story)


def test_what_the_agent_refuses_is_refused_with_its_reason(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        (agent,) = await ready(room)
        agent.refuses = "this machine is a container"
        await room.create("fill-disk", "minion-1")
        assert (await room.fault_in("Refused")).status.message == "minion-1: this machine is a container"
        assert agent.done() == ["look"]
        agent.fails = "no such thing"
        await room.create("fill-disk", "minion-1", "two")
        assert (await room.fault_in("Refused", "two")).status.message == "minion-1: no such thing"

    play(story)


@pytest.mark.parametrize(
    "said", [b"", b"[]", b'{"done": "x"}', b'{"done": ["' + b"x" * 10_000 + b'"]}', b'{"done": [1]}', b'{"refused": null}', b"\xff"]
)
def test_what_a_minion_answers_is_checked_and_costs_that_fault_alone(play: Play, said: bytes) -> None:
    async def story(room: FaultRoom) -> None:
        (agent,) = await ready(room)

        async def lie(shell: Shell) -> int:
            await shell.read_all()
            await shell.write(said)
            return 0

        run, room.minions["minion-1"].host.programs["python3"] = room.minions["minion-1"].host.programs["python3"], lie
        await room.create("fail-dns", "minion-1")
        message = (await room.fault_in("Refused")).status.message
        assert message.startswith("minion-1: its agent's answer can't be read") and len(message) < 400
        room.minions["minion-1"].host.programs["python3"] = run
        await room.create("fail-dns", "minion-1", "two")
        await room.fault_in("Active", "two")
        assert agent.made == {"two"}

    play(story)


INVALID = [
    ("burn-memory", "pod/default/web", {}),
    ("burn-memory", "pod/default/web", {"size": "64"}),
    ("burn-memory", "pod/default/web", {"size": "2000%"}),
    ("burn-cpu", "pod/default/web", {"cpus": "0"}),
    ("burn-cpu", "pod/default/web", {"cpus": "-1"}),
    ("burn-cpu", "pod/default/web", {"memory": "1Gi"}),
    ("fill-disk", "minion-1", {"left": "much"}),
    ("fill-disk", "pod/default/web", {}),
    ("slow-disk", "minion-1", {"rate": "fast"}),
    ("slow-disk", "minion-1", {"operations": "all"}),
    ("skew-clock", "minion-1", {}),
    ("skew-clock", "minion-1", {"by": "5"}),
    ("fail-dns", "minion-1", {"mode": "nxdomain"}),
    ("flush-rules", "minion-1", {"table": "mangle"}),
    ("kill-process", "minion-1", {"process": "init"}),
]


@pytest.mark.parametrize(("type_", "target", "parameters"), INVALID)
def test_parameters_need_their_units_and_bounds(play: Play, type_: str, target: str, parameters: dict[str, str]) -> None:
    async def story(room: FaultRoom) -> None:
        with pytest.raises(ApiError) as refused:
            await room.create(type_, target, parameters=parameters)
        assert refused.value.code == 422 and len(str(refused.value).splitlines()) == 1

    play(story)


def test_a_paused_machine_is_refused_and_one_that_went_off_is_healed_without_it(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)
        await room.create("fail-dns", "minion-1", "dns")
        await room.create("fill-disk", "minion-1", "full")
        await room.fault_in("Active", "dns")
        await room.fault_in("Active", "full")
        await room.create("power-off", "minion-1", "off")
        await room.fault_in("Active", "off")
        await room.until(lambda: room.machine("minion-1").status.power == "Off")
        for name in ("dns", "full"):
            await room.heal(name)
        fault = await room.fault_in("Healed", "dns")
        assert fault.status.done[-1] == "minion-1 is off: nothing of it runs any more"
        await room.quiet()
        assert room.fault("full").phase == "Healing", "what is on the disk waits for the machine"
        await room.heal("off")
        await room.fault_in("Healed", "full")
        await room.phase("minion-1", "Ready")
        await room.create("pause", "minion-1", "pause")
        await room.fault_in("Active", "pause")
        await room.until(lambda: room.machine("minion-1").status.power == "Paused")
        await room.create("fail-dns", "minion-1", "again")
        assert (await room.fault_in("Refused", "again")).status.message == "minion-1 is paused"

    play(story)


def test_all_machines_are_hit_and_none_twice(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        agents = await ready(room, 2)
        await room.create("fail-dns", "minion-2", "a")
        await room.fault_in("Active", "a")
        await room.create("fail-dns", "all", "b")
        refused = await room.fault_in("Refused", "b")
        assert refused.status.message == "fault a (fail-dns on minion-2) is at work there already; heal it first"
        await room.heal("a")
        await room.fault_in("Healed", "a")
        await room.create("fail-dns", "all", "c")
        await room.fault_in("Active", "c")
        assert all(agent.made == {"c"} for agent in agents)
        await room.heal("c")
        await room.fault_in("Healed", "c")
        assert not any(agent.made for agent in agents)

    play(story)


def test_a_machine_that_boots_again_ends_the_fault(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        (agent,) = await ready(room)
        await pod(room)
        await room.create("stop-container", "pod/default/web", "a")
        await room.create("slow-disk", "minion-1", "b")
        await room.create("fill-disk", "minion-1", "c")
        for name in "abc":
            await room.fault_in("Active", name)
        await room.create("reset", "minion-1", "reset")
        for name in "ab":
            assert (await room.fault_in("Healed", name)).status.message == "minion-1 was booted again"
        await room.quiet()
        assert room.fault("c").phase == "Active" and room.provider.machines()["minion-1"].power is Power.ON

    play(story)


@pytest.mark.parametrize("how", ["deleted", "restarted", "ended"])
def test_the_end_of_the_container_ends_the_fault(play: Play, how: str) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room)
        await pod(room)
        await room.create("burn-cpu", "pod/default/web")
        await room.fault_in("Active")
        if how == "deleted":
            await room.client.delete(PODS, "default/web", grace_s=0)
        elif how == "restarted":
            await state(room, "web", ("app",), {"running": {"startedAt": "2026-01-01T00:00:01Z"}}, "b" * 64)
        else:
            await state(room, "web", ("app",), {"terminated": {"exitCode": 1, "reason": "Error", "containerID": f"crun://{ID}"}})
        fault = await room.fault_in("Healed")
        assert fault.status.message == ("pod web is gone" if how == "deleted" else "container app of pod web ended")
        assert room.faults._on_pods == {}

    play(story)


@pytest.mark.parametrize("at", range(1, 11))
@pytest.mark.parametrize(
    ("type_", "target"), [("stop-container", "pod/default/web"), ("fill-disk", "minion-1"), ("fail-pulls", "minion-1")]
)
def test_a_master_that_is_killed_at_any_step_leaves_nothing_broken(play: Play, type_: str, target: str, at: int) -> None:
    async def story(room: FaultRoom) -> None:
        (agent,) = await ready(room)
        await pod(room)
        room.points.passed = 0
        await room.create(type_, target, duration="5s")
        for _ in range(400):
            if room.points.reached.is_set():
                break
            await room.quiet_a_moment()
        if room.points.reached.is_set():
            await room.restart()
        await room.fault_in("Healed")
        assert not agent.made and open_for(room.pulls, "minion-1")

    play(story, at)


def open_for(gate: PullGate, machine: str) -> bool:
    try:
        gate.check(f"system:node:{machine}", "image x")
    except ApiError as error:
        assert (error.code, error.reason) == (503, "ErrImagePull")
        return False
    return True


def test_pulls_fail_for_whom_it_is_meant_also_after_a_restart_of_the_master(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room, 2)
        await room.create("fail-pulls", "minion-1")
        await room.fault_in("Active")
        await room.restart()
        await room.until(lambda: not open_for(room.pulls, "minion-1"))
        assert open_for(room.pulls, "minion-2")
        room.pulls.check("kubernetes-admin", "image x")
        await room.create("fail-pulls", "all", "all")
        await room.fault_in("Active", "all")
        assert not open_for(room.pulls, "minion-2")
        await room.heal("all")
        await room.heal()
        await room.fault_in("Healed")
        await room.fault_in("Healed", "all")
        assert open_for(room.pulls, "minion-1") and open_for(room.pulls, "minion-2")
        assert {each.phase for each in room.client.list(FAULTS)} == {"Healed"}

    play(story)
