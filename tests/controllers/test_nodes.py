import pytest

from labctl.controllers.nodes import Nodes
from labctl.controllers.settings import ControllerSettings
from labctl.sim.objects import condition, node, pod
from labctl.sim.picture import Picture
from labctl.sim.scenario import LAB
from tests.work import calls

GRACE_S = 40
TOGETHER_S = ControllerSettings().ends_together_s
BOOT_S = ControllerSettings().boot_s
KUBERNETES = ControllerSettings(lease_grace_s=GRACE_S)
NAME = "minion-1"
OTHER = "minion-2"


@pytest.fixture
def picture():
    return Picture([Nodes(KUBERNETES)])


def lease(picture, renewed="1", name=NAME):
    spec = {"holderIdentity": name, "renewTime": f"2026-01-01T00:00:0{renewed}.000000Z"}
    picture.put({"kind": "Lease", "metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": spec})


def machine(picture, power, boot, name=NAME, phase="", wanted="On", **event):
    status = {"power": power, "bootID": boot, "phase": phase, "lastEvent": {"power": power, "bootID": boot, **event}}
    picture.put({"kind": "Machine", "metadata": {"name": name}, "spec": {"number": 1, "power": wanted}, "status": status})


def other(picture, **kw):
    """Another node, heard of just now: somewhere for pods to go."""
    picture.put(node(OTHER, **kw))
    lease(picture, name=OTHER)


def settle(picture, turns=6):
    """Carry out what it plans on the node, until it plans nothing; answers every sentence it said."""
    said = []
    for _ in range(turns):
        plan = picture.plan(NAME)
        if not plan.actions and plan.again_s and plan.again_s <= TOGETHER_S:
            picture.clock.time += plan.again_s
            continue
        if not plan.actions:
            return said
        for action in plan.actions:
            obj = picture.view.raw(action.kind, action.key)
            for part, change in action.patch.items():
                obj[part] = {key: value for key, value in {**obj.get(part, {}), **change}.items() if value is not None}
            picture.put(obj)
            said.append(action.why)
    raise AssertionError("it never comes to rest")


def taints(picture):
    return sorted(f"{t.key.partition('/')[2]}={t.value}:{t.effect}" for t in picture.view.get("nodes", NAME).spec.taints)


def ready(picture):
    found = next(c for c in picture.view.get("nodes", NAME).status.conditions if c.type == "Ready")
    return found.status, found.reason


def test_a_healthy_node_is_left_alone_until_its_lease_could_be_too_old(picture):
    picture.put(node(NAME))
    lease(picture)
    picture.clock.time += 15
    plan = picture.plan(NAME)
    assert not plan.actions
    assert plan.again_s == GRACE_S - 15


def test_a_silent_node_becomes_unknown_and_unreachable(picture):
    picture.put(node(NAME))
    lease(picture)
    picture.clock.time += GRACE_S
    other(picture)
    settle(picture)
    assert ready(picture) == ("Unknown", "NodeStatusUnknown")
    message = next(c for c in picture.view.get("nodes", NAME).status.conditions if c.type == "Ready").message
    assert message == "Kubelet stopped posting node status."
    assert taints(picture) == ["unreachable=:NoExecute", "unreachable=:NoSchedule"]


def test_its_pods_are_no_longer_ready(picture):
    picture.put(node(NAME))
    lease(picture)
    picture.put(pod("a", node=NAME, ready=True))
    picture.clock.time += GRACE_S
    settle(picture)
    assert not picture.view.get("pods", "default/a").ready


def test_when_it_speaks_again_the_taints_go(picture):
    picture.put(node(NAME))
    lease(picture)
    picture.clock.time += GRACE_S
    settle(picture)
    lease(picture, renewed="2")
    settle(picture)
    assert ready(picture)[0] == "Unknown", "only its agent may say that it is ready"
    picture.put({**picture.view.raw("nodes", NAME), "status": node(NAME)["status"]})
    settle(picture)
    assert taints(picture) == []


def test_a_report_is_a_sign_of_life_too(picture):
    picture.put(node(NAME))
    lease(picture)
    picture.clock.time += GRACE_S - 1
    obj = node(NAME)
    obj["status"]["conditions"] = [condition("Ready", "True", lastHeartbeatTime="2026-01-01T00:00:09Z")]
    picture.put(obj)
    assert picture.plan(NAME).again_s == GRACE_S


def test_a_node_without_a_lease_is_silent_whatever_others_write_into_it(picture):
    picture.put(node(NAME))
    for part in range(4):
        picture.clock.time += GRACE_S / 4
        picture.put({**picture.view.raw("nodes", NAME), "spec": {"unschedulable": bool(part % 2)}})
    other(picture)
    settle(picture)
    assert ready(picture) == ("Unknown", "NodeStatusUnknown")
    settle(picture)
    assert "unreachable=:NoExecute" in taints(picture)


def test_a_node_without_a_lease_is_waited_for_anew_after_a_jump_of_the_clock(picture):
    picture.put(node(NAME))
    picture.clock.time += 10 * GRACE_S
    picture.view.begin_anew()
    assert picture.plan(NAME).again_s == GRACE_S


def test_after_a_jump_of_the_clock_silence_counts_from_now(picture):
    picture.put(node(NAME))
    lease(picture)
    picture.clock.time += 10 * GRACE_S
    picture.view.begin_anew()
    plan = picture.plan(NAME)
    assert not plan.actions
    assert plan.again_s == GRACE_S


def test_a_node_that_says_it_is_not_ready_is_tainted_so(picture):
    picture.put(node(NAME, ready="False"))
    lease(picture)
    settle(picture)
    assert taints(picture) == ["not-ready=:NoExecute", "not-ready=:NoSchedule"]


def test_a_node_that_said_nothing_yet_gets_no_pods_and_loses_none(picture):
    picture.put(node(NAME, ready=""))
    settle(picture)
    assert taints(picture) == ["not-ready=:NoSchedule"]


def test_cordon_and_pressure_are_taints_and_peoples_own_taints_stay(picture):
    own = {"key": "team", "value": "a", "effect": "NoExecute"}
    obj = node(NAME, unschedulable=True, taints=[own])
    obj["status"]["conditions"].append(condition("MemoryPressure", "True"))
    picture.put(obj)
    lease(picture)
    settle(picture)
    whole = [t.key for t in picture.view.get("nodes", NAME).spec.taints]
    assert whole == ["team", "node.kubernetes.io/memory-pressure", "node.kubernetes.io/unschedulable"]
    picture.put({**obj, "spec": {"taints": picture.view.raw("nodes", NAME)["spec"]["taints"]}})
    settle(picture)
    assert "unschedulable=:NoSchedule" not in taints(picture)


def test_death_of_the_boot_it_registered_with_fences_it_after_a_moment(picture):
    other(picture)
    picture.put(node(NAME, boot="b1"))
    lease(picture)
    machine(picture, "Off", "b1", reason="the plug was pulled")
    picture.put(pod("a", node=NAME, ready=True))
    first = picture.plan(NAME)
    assert [action.kind for action in first.actions] == ["pods"], "its pods answer nobody, at once"
    assert 0 < first.again_s < TOGETHER_S
    picture.drop("pods", "default/a")
    picture.clock.time += first.again_s
    second = picture.plan(NAME)
    assert [list(action.patch) for action in second.actions] == [["status"]], "ends that wait to be written come before this write"
    assert first.again_s + second.again_s == pytest.approx(TOGETHER_S)
    picture.clock.time += second.again_s
    late = picture.plan(NAME)
    assert [list(action.patch) for action in late.actions] == [["status"]], "it is not fenced before that is written"
    said = settle(picture)
    assert "out-of-service=boot-b1:NoExecute" in taints(picture)
    assert ready(picture) == ("False", "MachineOff")
    assert said == ["not ready: its machine is off: the plug was pulled", "out of service: its machine is off: the plug was pulled"]


def test_an_intended_halt_fences_as_well_and_is_told_as_intended(picture):
    other(picture)
    picture.put(node(NAME, boot="b1"))
    machine(picture, "Off", "b1", intended=True)
    assert settle(picture)[0] == "out of service: its machine was halted, as intended"
    assert ready(picture) == ("False", "MachineHalted")


def test_the_death_of_an_earlier_boot_is_old_news(picture):
    picture.put(node(NAME, boot="b2"))
    lease(picture)
    machine(picture, "Off", "b1")
    assert not picture.plan(NAME).actions


@pytest.mark.parametrize("power", ["Paused", "On", ""])
def test_nothing_but_off_fences(picture, power):
    picture.put(node(NAME, boot="b1"))
    lease(picture)
    machine(picture, power, "b1")
    assert not picture.plan(NAME).actions


def test_pods_of_a_boot_that_another_one_followed_answer_nobody_until_their_agent_says_so(picture):
    picture.put(node(NAME, boot="one"))
    lease(picture)
    picture.put(pod("web-1", node=NAME, ready=True))
    machine(picture, "On", "one")
    assert settle(picture) == []
    machine(picture, "On", "two")
    assert settle(picture) == [f"not ready: node {NAME} is not ready"]
    assert not picture.view.get("pods", "default/web-1").ready
    assert taints(picture) == [] and ready(picture)[0] == "True"  # nothing is moved: the agent starts them where they are


def test_the_fence_stays_until_the_agent_registers_another_boot(picture):
    other(picture)
    picture.put(node(NAME, boot="b1"))
    machine(picture, "Off", "b1")
    settle(picture)
    machine(picture, "On", "b2")
    settle(picture)
    assert "out-of-service=boot-b1:NoExecute" in taints(picture), "the machine has power, but its agent has not spoken"
    picture.put({**picture.view.raw("nodes", NAME), "status": node(NAME, boot="b2")["status"]})
    lease(picture, renewed="2")
    settle(picture)
    assert taints(picture) == []


def test_what_is_dead_already_stays_fenced_when_nobody_else_is_left(picture):
    other(picture, boot="o1")
    picture.put(node(NAME, boot="b1"))
    machine(picture, "Off", "b1")
    settle(picture)
    machine(picture, "Off", "o1", name=OTHER)
    settle(picture)
    assert "out-of-service=boot-b1:NoExecute" in taints(picture)


def test_ends_within_a_moment_are_one_end_whichever_is_told_first(picture):
    """Three machines, one after the other: the first waits for the last, and then nobody is left."""
    other(picture, boot="o1")
    picture.put(node("minion-3", boot="t1"))
    lease(picture, name="minion-3")
    picture.put(node(NAME, boot="b1"))
    for name, boot in ((NAME, "b1"), (OTHER, "o1"), ("minion-3", "t1")):
        machine(picture, "Off", boot, name=name)
        assert not picture.plan(NAME).actions or name == "minion-3"
        picture.clock.time += TOGETHER_S * 0.9
    picture.clock.time += TOGETHER_S
    settle(picture)
    assert taints(picture) == ["not-ready=:NoSchedule"]


def nobody(picture):
    """The only node there is."""


def silent_too(picture):
    other(picture)
    picture.clock.time += GRACE_S / 2 + 1


def not_heard_since_the_start(picture):
    other(picture)
    picture.view.begin_anew()


def dead_too(picture):
    other(picture, boot="o1")
    machine(picture, "Off", "o1", name=OTHER)


def halting(picture):
    other(picture)
    machine(picture, "On", "o1", name=OTHER, wanted="Off")


@pytest.mark.parametrize("others", [nobody, silent_too, not_heard_since_the_start, dead_too, halting])
def test_pods_of_a_dead_machine_stay_where_they_are_while_nobody_is_left_to_take_them(picture, others):
    others(picture)
    picture.put(node(NAME, boot="b1"))
    picture.put(pod("a", node=NAME, ready=True))
    machine(picture, "Off", "b1")
    assert "its pods stay" in settle(picture)[0]
    assert taints(picture) == ["not-ready=:NoSchedule"] and ready(picture) == ("False", "MachineOff")
    assert not picture.view.get("pods", "default/a").ready
    assert picture.plan(NAME).again_s <= 1, "it looks again"
    other(picture, boot="o2")
    machine(picture, "On", "o2", name=OTHER)
    settle(picture)
    assert "out-of-service=boot-b1:NoExecute" in taints(picture), "now somebody can take them"


@pytest.mark.parametrize("phase", ["Booting", "Joining"])
def test_a_dead_machine_that_is_booting_keeps_its_pods_as_long_as_they_tolerate_a_node_that_is_not_ready(picture, phase):
    """It boots already when its end becomes known, beside others that live."""
    other(picture)
    picture.put(node(NAME, boot="b1"))
    machine(picture, "Off", "b1", phase=phase)
    settle(picture)
    assert taints(picture) == ["not-ready=:NoExecute", "not-ready=:NoSchedule"]
    picture.put({**picture.view.raw("nodes", NAME), "status": node(NAME, boot="b2")["status"]})
    machine(picture, "On", "b2", phase="Ready")
    lease(picture)
    settle(picture)
    assert taints(picture) == [] and ready(picture)[0] == "True"


def all_ended(settings=KUBERNETES):
    """Two machines that ended together, as with their host; both are to boot, and the other one is up first."""
    picture = Picture([Nodes(settings)])
    picture.put(node(NAME, boot="b1"))
    machine(picture, "Off", "b1")
    other(picture, boot="o1")
    machine(picture, "Off", "o1", name=OTHER)
    assert "its pods stay" in settle(picture)[0]
    machine(picture, "Off", "b1", phase="Booting")
    picture.put({**picture.view.raw("nodes", OTHER), "status": node(OTHER, boot="o2")["status"]})
    machine(picture, "On", "o2", name=OTHER, phase="Ready")
    return picture


def lives_on(picture, seconds):
    """Time passes, and the other node renews its lease."""
    picture.clock.time += seconds
    lease(picture, str(int(picture.clock.time) % 10), OTHER)


@pytest.mark.parametrize("settings", [KUBERNETES, LAB])
def test_pods_that_nobody_could_take_wait_for_their_machine_while_it_boots(settings):
    """Who boots first takes nothing, however short the time is that pods tolerate a node that is not ready."""
    picture = all_ended(settings)
    lives_on(picture, 1)
    settle(picture)
    assert taints(picture) == ["not-ready=:NoSchedule"]
    machine(picture, "On", "b2", phase="Joining")
    for _ in range(5):
        lives_on(picture, 9)
        settle(picture)
        assert taints(picture) == ["not-ready=:NoSchedule"] and ready(picture) == ("False", "MachineOff")
    picture.put({**picture.view.raw("nodes", NAME), "status": node(NAME, boot="b2")["status"]})
    machine(picture, "On", "b2", phase="Ready")
    lease(picture)
    settle(picture)
    assert taints(picture) == [] and ready(picture)[0] == "True"


@pytest.mark.parametrize("settings", [KUBERNETES, LAB])
def test_pods_of_a_labs_only_machine_wait_for_it_while_it_boots(settings):
    picture = Picture([Nodes(settings)])
    picture.put(node(NAME, boot="b1"))
    for power, boot, phase in (("Off", "b1", "Off"), ("Off", "b1", "Booting"), ("On", "b2", "Joining")):
        machine(picture, power, boot, phase=phase)
        for _ in range(3):
            settle(picture)
            assert taints(picture) == ["not-ready=:NoSchedule"]
            picture.clock.time += 1


@pytest.mark.parametrize("power, boot, phase", [("Off", "b1", "Booting"), ("On", "b2", "Joining")])
def test_a_machine_that_does_not_come_back_in_time_is_waited_for_as_long_as_its_pods_tolerate(power, boot, phase):
    picture = all_ended()
    machine(picture, power, boot, phase=phase)
    lives_on(picture, BOOT_S - 1)
    settle(picture)
    assert taints(picture) == ["not-ready=:NoSchedule"]
    assert 0 < picture.plan(NAME).again_s <= 1
    lives_on(picture, 1)
    settle(picture)
    assert any(taint.endswith(":NoExecute") for taint in taints(picture)) and not any(
        "out-of-service" in taint for taint in taints(picture)
    )
    lives_on(picture, 1)
    assert settle(picture) == [], "nor does it begin to wait once more"


@pytest.mark.parametrize("phase", ["Failed", "Off"])
def test_a_machine_whose_boot_failed_is_waited_for_no_longer(phase):
    picture = all_ended()
    lives_on(picture, 1)
    settle(picture)
    machine(picture, "Off", "b1", phase=phase)
    settle(picture)
    assert "out-of-service=boot-b1:NoExecute" in taints(picture)


def test_nodes_that_fall_silent_together_lose_no_pods(picture):
    """All machines were paused at one moment: their last words are at most a lease's period apart."""
    other(picture)
    picture.clock.time += 10
    picture.put(node(NAME))
    lease(picture)
    picture.clock.time += GRACE_S
    settle(picture)
    assert ready(picture)[0] == "Unknown" and taints(picture) == ["unreachable=:NoSchedule"]
    assert picture.plan(NAME).again_s <= 1


def test_a_silent_node_is_spared_as_soon_as_the_last_other_one_is_silent_as_well(picture):
    other(picture)
    picture.put(node(NAME))
    lease(picture)
    picture.clock.time += GRACE_S
    lease(picture, "2", OTHER)
    settle(picture)
    assert "unreachable=:NoExecute" in taints(picture)
    picture.clock.time += GRACE_S / 2 + 1
    settle(picture)
    assert taints(picture) == ["unreachable=:NoSchedule"]
    lease(picture, "3", OTHER)
    settle(picture)
    assert "unreachable=:NoExecute" in taints(picture)


def test_a_fence_that_a_person_set_is_theirs_to_take_away(picture):
    own = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
    picture.put(node(NAME, boot="b2", taints=[own]))
    lease(picture)
    assert not picture.plan(NAME).actions


def test_ready_again_is_an_event(picture):
    picture.put(node(NAME, ready="Unknown"))
    lease(picture)
    assert [action.event for action in picture.plan(NAME).actions] == [None], "that it is silent, is told with its conditions"
    settle(picture)
    picture.put({**picture.view.raw("nodes", NAME), "status": node(NAME)["status"]})
    (action,) = picture.plan(NAME).actions
    assert (action.event.reason, action.event.message) == ("NodeReady", f"Node {NAME} status is now: NodeReady")


def test_what_a_dead_node_needs_costs_the_same_in_a_large_lab():
    """Each look at one of 500 nodes that died together read the ends of all of them, and made a list of all 4,500 that live."""

    def cost(nodes: int, dead: int) -> int:
        picture = Picture([Nodes(KUBERNETES)])
        for name in [NAME, *(f"other-{number}" for number in range(1, nodes))]:
            picture.put(node(name))
            lease(picture, name=name)
        for name in [NAME, *(f"other-{number}" for number in range(nodes - dead, nodes))]:
            machine(picture, "Off", "boot-1", name=name, reason="it lost power")
        picture.clock.time += TOGETHER_S / 2
        assert picture.plan(NAME).again_s
        return calls(lambda: picture.plan(NAME))

    assert cost(400, 40) <= cost(100, 10) + 3
