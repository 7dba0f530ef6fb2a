"""`labctl why` about faults and machines, and why not: why a pod is not on a node, why a Service does not answer."""

from types import SimpleNamespace

import pytest

from labctl.controllers.builtin import builtin_controllers
from labctl.controllers.explain import explain, explain_not_on
from labctl.journal import Line
from labctl.resources.registry import builtin_registry
from labctl.scheduler.scheduler import Scheduler
from labctl.sim.objects import node, pod, service
from labctl.sim.picture import Picture

WEB = {"name": "web"}


@pytest.fixture
def scheduler():
    return Scheduler()


@pytest.fixture
def picture(scheduler):
    registry = builtin_registry()
    return Picture([*builtin_controllers(registry), scheduler], registry)


def past(*lines):
    return SimpleNamespace(lines=list(lines))


def why(picture, kind, key):
    return explain(picture.view, past(), kind, key)


def fault(name="plug", type_="power-off", target="minion-1", phase="Active", **more):
    spec = {"type": type_, "target": target, **more}
    status = (
        {"phase": phase, "injectedAt": "2026-01-01T00:00:00.000000Z", "done": ["cut its power"]}
        if phase != "Refused"
        else {"phase": phase, "message": "it is off"}
    )
    return {"apiVersion": "labctl.internal/v1", "kind": "Fault", "metadata": {"name": name}, "spec": spec, "status": status}


def machine(name="minion-1", power="On", boot="b1", **status):
    body = {"apiVersion": "labctl.internal/v1", "kind": "Machine", "metadata": {"name": name}}
    spec = {"provider": "namespace", "number": 1, "power": "On"}
    return {**body, "spec": spec, "status": {"power": power, "bootID": boot, "phase": "Ready", "address": "10.245.1.11", **status}}


def test_a_fault_says_what_it_does_how_it_ends_and_where_its_timeline_is(picture):
    picture.put(machine())
    picture.put(fault(duration="30s"))
    said = "\n".join(why(picture, "faults.labctl.internal", "plug"))
    for words in (
        "It is power-off of minion-1: ",
        "It acts now.",
        "Done: cut its power",
        "It is healed after 30s: labctl fault heal plug",
        "labctl timeline plug",
    ):
        assert words in said


def test_a_refused_fault_says_why_and_a_target_that_is_gone_is_said(picture):
    picture.put(fault(phase="Refused"))
    said = why(picture, "faults.labctl.internal", "plug")
    assert "It was refused, and nothing was touched. it is off" in said and "What it is about, minion-1, is not there now." in said
    assert not any("timeline" in line for line in said)


def test_a_machine_says_how_it_is_and_which_fault_acts_on_it(picture):
    picture.put(machine())
    said = "\n".join(why(picture, "machines.labctl.internal", "minion-1"))
    assert "It is no node yet" in said and "minion number 1 of provider namespace at 10.245.1.11" in said and "fault" not in said
    registered = node("minion-1")
    registered["status"]["nodeInfo"] = {"bootID": "b0"}
    picture.put(registered)
    picture.put(fault("cable", "cut", "minion-2", peer="minion-1"))
    picture.put(fault("old", phase="Healed"))
    said = "\n".join(why(picture, "machines.labctl.internal", "minion-1"))
    assert "from an earlier boot" in said and "cable (cut of minion-2)" in said and "old" not in said
    assert "cable" in "\n".join(why(picture, "nodes", "minion-1"))


def test_a_pod_says_which_fault_acts_on_it_or_on_its_machine(picture):
    for name, where in (("a", "minion-1"), ("b", "minion-2")):
        picture.put(pod(name, node=where))
    picture.put(fault("k", "stop-container", "pod/default/b/app"))
    picture.put(fault("p", "pause", "minion-1"))
    assert [
        ("(pause of" in text, "(stop-container of" in text) for text in ("\n".join(why(picture, "pods", f"default/{n}")) for n in "ab")
    ] == [(True, False), (False, True)]


def test_a_service_that_nobody_answers_for_says_so_first_and_then_why_of_each_pod(picture):
    unready = pod("a", labels=WEB, node="minion-1", ip="10.246.1.2", ready=False)
    picture.put(unready)
    picture.put(service("web", WEB))
    said = why(picture, "services", "default/web")
    assert "Nobody answers for it: none of the pods that its selector matches is ready." in said
    assert any(line.startswith("pod a: is not ready.") for line in said)


def test_a_service_names_the_policies_that_fence_its_pods(picture):
    picture.put(pod("a", labels=WEB, node="minion-1", ip="10.246.1.2"))
    picture.put(service("web", WEB))
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny", "namespace": "default"}}
    picture.put({**policy, "spec": {"podSelector": {"matchLabels": WEB}, "policyTypes": ["Ingress"]}})
    picture.put(
        {
            **policy,
            "metadata": {"name": "other", "namespace": "default"},
            "spec": {"podSelector": {"matchLabels": {"x": "y"}}, "policyTypes": ["Ingress"]},
        }
    )
    said = "\n".join(why(picture, "services", "default/web"))
    assert "NetworkPolicy deny says who may connect to 1 of them" in said and "NetworkPolicy other" not in said


# -- not on ------------------------------------------------------------------------------------------------------------------------------


def not_on(picture, scheduler, name, where, *lines):
    return explain_not_on(picture.view, past(*lines), f"default/{name}", where, scheduler.refusal)


def test_a_pod_that_was_placed_elsewhere_says_by_what_decision_and_whether_the_node_would_take_it_now(picture, scheduler):
    picture.put(node("minion-1"))
    picture.put(node("minion-2"))
    picture.put(pod("a", node="minion-1"))
    placed = Line(
        0.0,
        picture.clock.wall() - 60,
        "default-scheduler",
        "pods/default/a",
        "placed on minion-1: it fits 2 nodes equally well",
        did="bind",
    )
    assert not_on(picture, scheduler, "a", "minion-2", placed) == [
        "minion-2 would take it now, but a pod stays where it was placed: delete it, and its controller's next pod is placed anew.",
        "It was placed 60s ago: placed on minion-1: it fits 2 nodes equally well [default-scheduler]",
    ]
    assert not_on(picture, scheduler, "a", "minion-1") == ["It is on minion-1."]
    assert not_on(picture, scheduler, "a", "minion-9") == ["There is no node minion-9: there are minion-1, minion-2."]
    assert not_on(picture, scheduler, "nothing", "minion-1") == []


def test_a_node_that_would_refuse_it_says_why_in_the_schedulers_words(picture, scheduler):
    picture.put(node("minion-1"))
    cordoned = node("minion-2")
    cordoned["spec"] = {"unschedulable": True, "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}
    picture.put(cordoned)
    picture.put(pod("a", node="minion-1"))
    [first, second] = not_on(picture, scheduler, "a", "minion-2")
    assert first.startswith("minion-2 would not take it now: ") and "unschedulable" in first
    assert second == "It was placed on minion-1; the journal no longer has the reason."


def test_a_pod_that_waits_says_what_that_node_lacks(picture, scheduler):
    picture.put(node("minion-1"))
    big = pod("big")
    big["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1000"}}
    picture.put(big)
    assert not_on(picture, scheduler, "big", "minion-1") == ["minion-1 would not take it now: Insufficient cpu."]
