import pytest

from labctl.controllers.evictions import Evictions
from labctl.controllers.settings import ControllerSettings
from labctl.reconcile.plan import Delete, Patch
from labctl.sim.objects import node, pod
from labctl.sim.picture import Picture

NAME = "minion-1"
UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
FENCE = {"key": "node.kubernetes.io/out-of-service", "value": "boot-b1", "effect": "NoExecute"}


@pytest.fixture
def picture():
    return Picture([Evictions(ControllerSettings(eviction_s=300))])


def with_tolerations(name, *tolerations, **kw):
    obj = pod(name, node=NAME, **kw)
    obj["spec"]["tolerations"] = list(tolerations)
    return obj


def evicted(plan):
    return [(action.key.partition("/")[2], action.grace_s) for action in plan.actions if isinstance(action, Delete)]


def test_a_pod_stays_for_the_default_time_and_then_goes_with_its_own_grace(picture):
    picture.put(pod("a", node=NAME))
    picture.put(node(NAME, ready="Unknown", taints=[UNREACHABLE]))
    plan = picture.plan(NAME)
    assert not plan.actions and plan.again_s == 300
    picture.clock.time += 300
    plan = picture.plan(NAME)
    assert evicted(plan) == [("a", None)]
    told, deleted = plan.actions
    assert deleted.event.message == "Marking for deletion Pod default/a"
    assert (told.patch["status"]["conditions"][-1]["type"], told.patch["status"]["conditions"][-1]["reason"]) == (
        "DisruptionTarget",
        "DeletionByTaintManager",
    )


def test_each_pods_own_toleration_decides(picture):
    short = {**UNREACHABLE, "operator": "Exists", "tolerationSeconds": 10}
    ever = {"key": UNREACHABLE["key"], "operator": "Exists"}
    picture.put(with_tolerations("short", short))
    picture.put(with_tolerations("ever", ever))
    picture.put(pod("default", node=NAME))
    picture.put(node(NAME, ready="Unknown", taints=[UNREACHABLE]))
    assert picture.plan(NAME).again_s == 10
    picture.clock.time += 10
    plan = picture.plan(NAME)
    assert evicted(plan) == [("short", None)]
    assert plan.again_s == 290


def test_another_taint_evicts_at_once_those_who_do_not_tolerate_it(picture):
    taint = {"key": "team", "value": "a", "effect": "NoExecute"}
    picture.put(pod("stranger", node=NAME))
    picture.put(with_tolerations("friend", {"key": "team", "value": "a", "effect": "NoExecute"}))
    picture.put(with_tolerations("other", {"key": "team", "value": "b", "operator": "Equal"}))
    picture.put(node(NAME, taints=[taint]))
    assert evicted(picture.plan(NAME)) == [("other", None), ("stranger", None)]


def test_no_schedule_evicts_nobody(picture):
    picture.put(pod("a", node=NAME))
    picture.put(node(NAME, taints=[{"key": "team", "effect": "NoSchedule"}]))
    assert not picture.plan(NAME).actions


def test_a_master_that_restarts_counts_from_then(picture):
    picture.put(pod("a", node=NAME))
    picture.put(node(NAME, ready="Unknown", taints=[UNREACHABLE]))
    picture.clock.time += 299
    picture.view.begin_anew()
    assert picture.plan(NAME).again_s == 300


def test_out_of_service_removes_everything_at_once_even_what_is_leaving(picture):
    picture.put(pod("a", node=NAME))
    picture.put(pod("leaving", node=NAME, deletionTimestamp="2026-01-01T00:00:00Z"))
    picture.put(with_tolerations("tolerates", {"key": FENCE["key"], "operator": "Exists"}))
    picture.put(with_tolerations("everything", {"operator": "Exists"}))
    picture.put(pod("elsewhere", node="minion-2"))
    picture.put(node(NAME, ready="False", taints=[FENCE]))
    assert evicted(picture.plan(NAME)) == [("a", 0), ("everything", 0), ("leaving", 0)]


def test_what_a_dead_node_took_along_has_failed_and_is_a_disruption(picture):
    picture.put(pod("a", node=NAME))
    picture.put(pod("done", node=NAME, phase="Succeeded"))
    picture.put(pod("leaving", node=NAME, deletionTimestamp="2026-01-01T00:00:00Z"))
    picture.put(node(NAME, ready="False", taints=[FENCE]))
    told = {action.key: action.patch["status"] for action in picture.plan(NAME).actions if isinstance(action, Patch)}
    assert told["default/leaving"] == {"phase": "Failed"}, "it was leaving before"
    assert all(action.why for action in picture.plan(NAME).actions), "a replacement follows from the first of them"
    assert told.keys() == {"default/a", "default/leaving"} and told["default/a"]["phase"] == "Failed"
    last = told["default/a"]["conditions"][-1]
    said = "Taint manager: deleting due to NoExecute taint"
    assert (last["type"], last["status"], last["reason"], last["message"]) == ("DisruptionTarget", "True", "DeletionByTaintManager", said)


def test_a_persons_fence_counts_only_once_the_node_is_not_ready(picture):
    fence = {**FENCE, "value": "nodeshutdown"}
    picture.put(pod("leaving", node=NAME, deletionTimestamp="2026-01-01T00:00:00Z"))
    picture.put(node(NAME, ready="True", taints=[fence]))
    assert not picture.plan(NAME).actions
    picture.put(node(NAME, ready="Unknown", taints=[fence]))
    assert evicted(picture.plan(NAME)) == [("leaving", 0)]


def test_it_is_woken_by_taints_and_by_pods_that_come_to_tainted_nodes(picture):
    woken = picture.dirty["taint-eviction-controller"]
    picture.put(node(NAME))
    picture.put(pod("a", node=NAME))
    assert not woken
    picture.put(node(NAME, taints=[UNREACHABLE]))
    assert woken.pop() == NAME
    picture.put(pod("b", node=NAME))
    assert woken.pop() == NAME
