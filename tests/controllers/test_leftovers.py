import pytest

from labctl.clock import rfc3339
from labctl.controllers.leftovers import Leftovers
from labctl.controllers.settings import ControllerSettings
from labctl.reconcile.plan import Delete
from labctl.sim.objects import node, pod
from labctl.sim.picture import Picture


@pytest.fixture
def picture():
    return Picture([Leftovers(ControllerSettings(finished_pods=2, gone_node_s=40, event_ttl_s=3600, sweep_s=30))])


def deleted(plan):
    return [action.key for action in plan.actions if isinstance(action, Delete)]


def test_pods_and_lease_of_a_gone_node_are_removed_after_a_while(picture):
    picture.put(node("n1"))
    picture.put(pod("a", node="n1"))
    picture.put({"kind": "Lease", "metadata": {"name": "n1", "namespace": "kube-node-lease"}})
    assert not picture.dirty["pod-garbage-collector"]
    picture.drop("nodes", "n1")
    assert picture.dirty["pod-garbage-collector"] == ["node/n1"]
    plan = picture.plan("node/n1")
    assert not plan.actions and plan.again_s == 40
    picture.clock.time += 40
    plan = picture.plan("node/n1")
    assert deleted(plan) == ["default/a", "kube-node-lease/n1"]
    told, ended, _ = plan.actions
    assert ended.grace_s == 0 and told.patch["status"]["phase"] == "Failed"
    last = told.patch["status"]["conditions"][-1]
    assert (last["type"], last["reason"], last["message"]) == ("DisruptionTarget", "DeletionByPodGC", "PodGC: node no longer exists")


def test_a_finished_pod_of_a_gone_node_stays_as_it_ended(picture):
    picture.put(pod("a", node="n1", phase="Succeeded"))
    picture.plan("node/n1")
    picture.clock.time += 40
    assert [type(action) for action in picture.plan("node/n1").actions] == [Delete]


def test_a_node_that_comes_back_keeps_its_pods_and_the_count_begins_anew(picture):
    picture.put(pod("a", node="n1"))
    picture.plan("node/n1")
    picture.clock.time += 39
    picture.put(node("n1"))
    assert not picture.plan("node/n1").actions
    picture.drop("nodes", "n1")
    picture.clock.time += 39
    assert not picture.plan("node/n1").actions


def test_the_oldest_finished_pods_go_when_there_are_too_many(picture):
    for number in range(4):
        picture.put(pod(f"p{number}", phase="Succeeded", creationTimestamp=f"2026-01-01T00:00:0{9 - number}Z"))
    assert "finished" in picture.dirty["pod-garbage-collector"]
    assert deleted(picture.plan("finished")) == ["default/p3", "default/p2"]


def test_events_go_after_their_hour_and_only_then(picture):
    def told(name, age_s, made_s=None):
        before = [rfc3339(picture.clock.wall() - seconds) for seconds in (age_s if made_s is None else made_s, age_s)]
        picture.put({"kind": "Event", "metadata": {"name": name, "creationTimestamp": before[0]}, "lastTimestamp": before[1]})

    told("old", 3601)
    told("new", 3599)
    told("of-long-ago", 99_999, made_s=60)
    told("told-again", 60, made_s=99_999)
    assert picture.dirty["pod-garbage-collector"] == ["events"], "once: from then on it looks again by itself"
    plan = picture.plan("events")
    assert deleted(plan) == ["default/old"]
    assert plan.again_s == 30
