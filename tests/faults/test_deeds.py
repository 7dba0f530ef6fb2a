"""The deeds of links, the API and the master, on a fake provider and in virtual time."""

from __future__ import annotations

import msgspec
import pytest

from labctl.api.extensions import ExtensionRequest, Extensions
from labctl.api.query import parse
from labctl.errors import ApiError
from labctl.faults.reconciler import contradict
from labctl.master.faultchecks import add_routes
from labctl.providers.protocol import LinkRule
from labctl.resources.kinds.labctl_internal_v1.fault import Fault, FaultSpec
from tests.faults.conftest import FaultRoom, Play

NETEM = "this host's kernel has no netem"


async def ready(room: FaultRoom, *numbers: int) -> None:
    for number in numbers:
        await room.phase(await room.up(number), "Ready")
        await room.until(lambda number=number: (n := room.client.get("nodes", f"minion-{number}")) and n.spec.pod_cidr)


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        ({"type_": "cut", "direction": "in"}, LinkRule("cut", "in")),
        ({"type_": "cut", "peer": "minion-2"}, LinkRule("cut", "both", ("10.245.1.12", "10.246.2.0/24"))),
        ({"type_": "loss", "peer": "master", "parameters": {"share": "12.5%"}}, LinkRule("loss", "both", ("10.245.1.1",), share=0.125)),
        ({"type_": "delay", "parameters": {"time": "50ms", "jitter": "5ms"}}, LinkRule("delay", delay_s=0.05, jitter_s=0.005)),
        ({"type_": "jitter", "parameters": {"time": "20ms"}}, LinkRule("delay", delay_s=0.01, jitter_s=0.01)),
        ({"type_": "rate", "direction": "out", "parameters": {"rate": "1mbit"}}, LinkRule("rate", "out", rate_bits=1e6)),
        ({"type_": "duplicate", "parameters": {"share": "5%"}}, LinkRule("duplicate", share=0.05)),
    ],
)
def test_a_fault_of_a_link_is_a_rule_until_it_is_healed(play: Play, spec: dict[str, object], rule: LinkRule) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room, 1, 2)
        await room.create(target="minion-1", duration="5s", **spec)
        await room.fault_in("Active")
        assert list(room.provider.link_rules("minion-1").values()) == [rule]
        assert not room.provider.cut_links
        await room.fault_in("Healed")
        assert room.provider.link_rules("minion-1") == {}

    play(story)


def test_the_whole_cable_is_pulled_without_a_rule(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room, 1)
        await room.create("cut", "minion-1")
        await room.fault_in("Active")
        assert room.provider.cut_links == {"minion-1"} and not room.provider.link_rules("minion-1")
        await room.heal()
        await room.fault_in("Healed")
        assert not room.provider.cut_links

    play(story)


def test_what_the_host_can_not_do_is_refused(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room, 1)
        room.provider.no_rules["delay"] = NETEM
        await room.create("delay", "minion-1", parameters={"time": "50ms"})
        assert (await room.fault_in("Refused")).status.message == NETEM
        await room.create("cut", "minion-1", "two", peer="minion-7")
        assert "there is no machine minion-7" in (await room.fault_in("Refused", "two")).status.message

    play(story)


def test_a_fault_of_a_link_is_over_when_its_machine_goes_off(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room, 1)
        await room.create("loss", "minion-1", parameters={"share": "50%"})
        await room.fault_in("Active")
        room.provider.crash("minion-1")
        assert "went off" in (await room.fault_in("Healed")).status.message

    play(story)


def test_a_client_is_refused_also_by_the_next_master(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await room.create("api-refuse", "client/somebody", parameters={"code": "429"})
        await room.fault_in("Active")
        with pytest.raises(ApiError, match="Too many requests"):
            await room.api.meet("somebody", "/api/v1/pods", None)
        await room.restart()
        await room.until(lambda: bool(room.api))
        with pytest.raises(ApiError) as refused:
            await room.api.meet("somebody", "/api/v1/pods", None)
        assert (refused.value.code, refused.value.retry_after_s) == (429, 1)
        await room.heal()
        await room.fault_in("Healed")
        assert not room.api

    play(story)


def test_a_client_that_is_no_machines_agent_is_refused(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await room.create("api-delay", "client/system:node:minion-9", parameters={"time": "1s"})
        assert "there is no machine minion-9" in (await room.fault_in("Refused")).status.message

    play(story)


def test_a_master_that_is_killed_by_a_fault_is_killed_once(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await room.create("kill-process", "master")
        await room.until(lambda: room.kills == 1)
        await room.quiet_a_moment()
        before = room.fault()
        assert before and before.phase == "Injecting", "a dead master says nothing"
        await room.restart()
        fault = await room.fault_in("Healed")
        assert fault.status.done == ("the master was killed, and was started again",)
        assert fault.status.injected_monotonic == before.status.injected_monotonic
        await room.quiet()
        assert room.kills == 1

    play(story)


def test_the_masters_ssh_process_must_be_there(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await room.create("kill-process", "master", parameters={"process": "ssh"})
        assert "no SSH process" in (await room.fault_in("Refused")).status.message
        await room.create("kill-process", "master", "two", parameters={"process": "agent"})
        assert "agent is a process of a machine" in (await room.fault_in("Refused", "two")).status.message

    play(story)


def of(**spec: object) -> Fault:
    return Fault(spec=FaultSpec(**{"type": "loss", "target": "minion-1", **spec}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other", "they_do"),
    [
        ({}, {}, True),
        ({}, {"target": "minion-2"}, False),
        ({}, {"type": "rate"}, False),
        ({"direction": "in"}, {"direction": "out"}, False),
        ({"direction": "in"}, {"direction": "both"}, True),
        ({"peer": "minion-2"}, {"peer": "minion-3"}, False),
        ({"peer": "minion-2"}, {}, True),
        ({"type": "kill-process", "parameters": {"process": "agent"}}, {"type": "kill-process", "parameters": {"process": "sshd"}}, False),
    ],
)
def test_which_faults_contradict_each_other(one: dict[str, object], other: dict[str, object], they_do: bool) -> None:
    assert contradict(of(**one), of(**other)) is they_do
    assert contradict(of(**other), of(**one)) is they_do


# -- faults that are no objects yet: an experiment asks before it begins


def test_what_can_not_be_done_is_known_before_there_is_a_fault(play: Play) -> None:
    async def story(room: FaultRoom) -> None:
        await ready(room, 1)
        room.provider.no_rules["delay"] = NETEM
        room.provider.cut_links.clear()
        asked = [
            {"type": "delay", "target": "minion-1", "parameters": {"time": "50ms"}},
            {"type": "power-off", "target": "minion-7"},
            {"type": "delay", "target": "minion-1"},
            {"type": "loss", "target": "minion-1", "parameters": {"share": "10%"}},
            {"type": "kill-container", "target": "pod/default/web"},
        ]
        routes = Extensions()
        add_routes(routes, room.faults, room.runner.view)
        handler, params = routes._find("POST", "/labctl/v1/faults/check")
        request = ExtensionRequest(None, params, parse(""), msgspec.json.encode({"items": asked}))  # type: ignore[arg-type]
        said = (await handler(request))["items"]
        assert said[0] == NETEM
        assert "there is no machine minion-7" in said[1]
        assert said[2] == "spec.parameters[time]: Required value"
        assert said[3] == ""
        assert said[4] == "there is no pod web in namespace default"
        assert room.client.list("faults.labctl.internal") == [] and not room.provider.link_rules("minion-1")

    play(story)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"items": [{"target": 3}]}', b'{"items": [' + b'{"type": "cut"},' * 100 + b'{"type": "cut"}]}']
)
def test_a_hostile_question_about_faults_is_one_line(play: Play, body: bytes) -> None:
    async def story(room: FaultRoom) -> None:
        routes = Extensions()
        add_routes(routes, room.faults, room.runner.view)
        handler, params = routes._find("POST", "/labctl/v1/faults/check")
        with pytest.raises(ApiError, match="these are no faults"):
            await handler(ExtensionRequest(None, params, parse(""), body))  # type: ignore[arg-type]

    play(story)
