from random import Random

import pytest

from labctl.reconcile.plan import Bind, Patch
from labctl.scheduler.scheduler import Scheduler
from labctl.scheduler.settings import SchedulerSettings
from labctl.sim.objects import node, pod, replication_controller
from labctl.sim.picture import Picture

NAME = "default-scheduler"


@pytest.fixture
def picture():
    return Picture([Scheduler(SchedulerSettings(backoff_min_s=1, backoff_max_s=8))])


def placed(picture, name):
    """Where it decides to put the pod; its binding is then seen."""
    (bind,) = picture.plan(f"default/{name}").actions
    assert isinstance(bind, Bind)
    return bind.node


def refused(picture, name):
    """The sentence why it fits nowhere, without what preemption says."""
    (patch,) = picture.plan(f"default/{name}").actions
    assert isinstance(patch, Patch)
    return patch.why.partition(" preemption: ")[0]


def pending(picture, name="p", **kw):
    spec = kw.pop("spec", {})
    obj = pod(name, **kw)
    obj["spec"] |= spec
    picture.put(obj)
    return name


def test_a_pod_is_bound_with_kubernetes_words(picture):
    picture.put(node("n1"))
    p = picture.put(pod("p"))
    (bind,) = picture.plan("default/p").actions
    assert (bind.key, bind.node, bind.uid) == ("default/p", "n1", p.metadata.uid)
    assert (bind.event.reason, bind.event.message) == ("Scheduled", "Successfully assigned default/p to n1")
    assert bind.why == "placed on n1: the only node where it fits"


def test_replicas_of_one_controller_are_spread_even_before_bindings_are_seen(picture):
    for name in ("n1", "n2", "n3"):
        picture.put(node(name, cpu="8"))
    rc = picture.put(replication_controller("web", 6))
    for number in range(6):
        picture.put(pod(f"p{number}", owner=rc))
    where = [placed(picture, f"p{number}") for number in range(6)]
    assert sorted(where) == ["n1", "n1", "n2", "n2", "n3", "n3"]


def test_pods_of_a_service_without_a_controller_are_spread_by_their_labels(picture):
    for name in ("n1", "n2"):
        picture.put(node(name))
    picture.put(pod("noise", node="n2", labels={"name": "db"}, cpu="500m"))
    picture.put(pod("noise-2", node="n2", labels={"name": "db"}))
    picture.put(pod("other", node="n1", labels={"name": "web"}))
    assert placed(picture, pending(picture, labels={"name": "web"})) == "n2"


@pytest.mark.parametrize("leaving_when_first_seen", [True, False])
def test_replicas_that_are_leaving_do_not_keep_their_successors_away(picture, leaving_when_first_seen):
    """`kubectl delete pods --all`: both were on n2, and both successors must not go to n1."""
    for name in ("n1", "n2"):
        picture.put(node(name, cpu="8"))
    rc = picture.put(replication_controller("web", 2))
    for state in ({}, {"deletionTimestamp": "2026-01-01T00:00:00Z"})[leaving_when_first_seen:]:
        for name in ("old-1", "old-2"):
            picture.put(pod(name, node="n2", owner=rc, **state))
    for name in ("new-1", "new-2"):
        picture.put(pod(name, owner=rc))
    assert [placed(picture, "new-1"), placed(picture, "new-2")] == ["n1", "n2"]  # the least requested first: the old are still there


def test_without_replicas_the_least_requested_node_wins(picture):
    picture.put(node("n1"))
    picture.put(node("n2"))
    picture.put(pod("big", node="n1", cpu="500m"))
    assert placed(picture, pending(picture, labels={"x": "y"})) == "n2"


def test_equals_are_drawn_from_the_given_chance(picture):
    picture.put(node("n1"))
    picture.put(node("n2"))
    drawn = {placed(picture, pending(picture, f"p{number}", labels={"n": str(number // 2)})) for number in range(0, 20, 2)}
    assert drawn == {"n1", "n2"}


def test_every_refusal_in_todays_words_sorted(picture):
    picture.put(node("n1", unschedulable=True))
    picture.put(node("n2", memory="256Mi"))
    assert refused(picture, pending(picture, memory="512Mi")) == (
        "0/2 nodes are available: 1 Insufficient memory, 1 node(s) were unschedulable."
    )


def test_no_nodes(picture):
    assert refused(picture, pending(picture)) == "no nodes available to schedule pods"


@pytest.mark.parametrize(
    "spec, words",
    [
        ({"nodeSelector": {"disk": "ssd"}}, "1 node(s) didn't match Pod's node affinity/selector"),
        (
            {"containers": [{"name": "c", "resources": {"requests": {"cpu": "2", "memory": "2Gi"}}}]},
            "1 Insufficient cpu, 1 Insufficient memory",
        ),
        ({"containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}}}]}, "1 Insufficient cpu"),
        (
            {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]}]},
            "1 node(s) didn't have free ports for the requested pod ports",
        ),
    ],
)
def test_why_a_node_does_not_do(picture, spec, words):
    picture.put(node("n1"))
    obj = pod("taker", node="n1")
    obj["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]
    picture.put(obj)
    assert refused(picture, pending(picture, spec=spec)) == f"0/1 nodes are available: {words}."


RESTARTS_ALL = {
    "restartPolicy": "Never",
    "restartPolicyRules": [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}],
}


@pytest.mark.parametrize("where", ["containers", "initContainers"])
def test_a_pod_that_needs_a_declared_feature_goes_only_where_it_is_declared(picture, where):
    """Kubernetes' documentation, "Node Declared Features"."""
    picture.put(node("n1"))
    containers = {"containers": [{"name": "main"}], where: [{"name": "c", **RESTARTS_ALL}]}
    words = "node declared features check failed - unsatisfied requirements: RestartAllContainersOnContainerExits"
    assert refused(picture, pending(picture, spec=containers)) == f"0/1 nodes are available: 1 {words}."
    can = node("n1")
    can["status"]["declaredFeatures"] = ["GuaranteedQoSPodCPUResize", "RestartAllContainersOnContainerExits"]
    picture.dirty[NAME].clear()
    picture.put(can)
    assert picture.dirty[NAME] == ["default/p"], "it is looked at again"
    picture.clock.time += 2
    assert placed(picture, "p") == "n1"


def test_a_pod_with_claims_for_devices_goes_nowhere(picture):
    picture.put(node("n1"))
    claims = {"containers": [{"name": "c"}], "resourceClaims": [{"name": "gpu", "resourceClaimName": "a"}]}
    assert (
        refused(picture, pending(picture, spec=claims)) == "0/1 nodes are available: 1 cannot allocate all claims. still not schedulable,"
    )


def test_a_rule_that_restarts_one_container_needs_no_declared_feature(picture):
    picture.put(node("n1"))
    rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
    pending(picture, spec={"containers": [{"name": "c", "restartPolicy": "Never", "restartPolicyRules": [rule]}]})
    assert placed(picture, "p") == "n1"


def test_too_many_pods(picture):
    picture.put(node("n1", pods=1))
    picture.put(pod("a", node="n1"))
    assert refused(picture, pending(picture)) == "0/1 nodes are available: 1 Too many pods."


@pytest.mark.parametrize(
    "toleration, fits",
    [
        (None, False),
        ({"key": "team", "value": "a", "effect": "NoSchedule"}, True),
        ({"key": "team", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "team", "value": "b"}, False),
        ({"key": "team", "value": "a", "effect": "NoExecute"}, False),
    ],
)
def test_taints_and_tolerations(picture, toleration, fits):
    picture.put(node("n1", taints=[{"key": "team", "value": "a", "effect": "NoSchedule"}]))
    pending(picture, spec={"tolerations": [toleration] if toleration else []})
    if fits:
        assert placed(picture, "p") == "n1"
    else:
        assert refused(picture, "p") == "0/1 nodes are available: 1 node(s) had untolerated taint(s)."


def test_a_node_that_is_not_ready_gets_nothing_even_before_it_is_tainted(picture):
    picture.put(node("n1", ready="False"))
    assert refused(picture, pending(picture)) == "0/1 nodes are available: 1 node(s) had untolerated taint(s)."


def test_cordon_can_be_tolerated(picture):
    picture.put(node("n1", unschedulable=True))
    toleration = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}
    assert placed(picture, pending(picture, spec={"tolerations": [toleration]})) == "n1"


def test_init_containers_count_as_their_peak_and_sidecars_stay(picture):
    picture.put(node("n1", cpu="1"))

    def container(cpu, **more):
        return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **more}

    fits = {"containers": [container("500m")], "initContainers": [container("1")]}
    assert placed(picture, pending(picture, "fits", spec=fits)) == "n1"
    picture.drop("pods", "default/fits")
    beside = {"containers": [container("500m")], "initContainers": [container("600m", restartPolicy="Always")]}
    assert refused(picture, pending(picture, "beside", spec=beside)) == "0/1 nodes are available: 1 Insufficient cpu."


def test_what_was_decided_counts_at_once_and_is_given_back_when_the_pod_goes(picture):
    picture.put(node("n1", memory="1Gi"))
    assert placed(picture, pending(picture, "a", memory="600Mi")) == "n1"
    assert "Insufficient memory" in refused(picture, pending(picture, "b", memory="600Mi"))
    picture.dirty[NAME].clear()
    picture.drop("pods", "default/a")
    assert picture.dirty[NAME] == ["default/b"], "what waits is woken"
    picture.clock.time += 1
    assert placed(picture, "b") == "n1"


def test_a_binding_that_failed_is_decided_anew_and_does_not_count_twice(picture):
    picture.put(node("n1", memory="1Gi"))
    pending(picture, "a", memory="600Mi")
    assert placed(picture, "a") == "n1"
    assert placed(picture, "a") == "n1"


def test_finished_pods_free_their_place(picture):
    picture.put(node("n1", memory="1Gi"))
    picture.put(pod("job", node="n1", memory="600Mi", ready=True))
    picture.put(pod("job", node="n1", memory="600Mi", phase="Succeeded"))
    assert placed(picture, pending(picture, memory="600Mi")) == "n1"


def test_why_a_pod_waits_says_which_generation_was_looked_at(picture):
    whole = pod("p")
    whole["metadata"]["generation"] = 3
    picture.put(whole)
    (patch,) = picture.plan("default/p").actions
    (condition,) = patch.patch["status"]["conditions"]
    assert condition["observedGeneration"] == 3


def test_the_reason_is_written_once_and_again_only_when_it_changes(picture):
    picture.put(node("n1", unschedulable=True))
    pending(picture)
    (patch,) = picture.plan("default/p").actions
    assert (patch.event.type, patch.event.reason) == ("Warning", "FailedScheduling")
    (condition,) = patch.patch["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("PodScheduled", "False", "Unschedulable")
    before = picture.view.raw("pods", "default/p")
    picture.put({**before, "status": {**before["status"], **patch.patch["status"]}})
    picture.clock.time += 1
    plan = picture.plan("default/p")
    assert not plan.actions and plan.again_s == 300
    picture.put(node("n2", unschedulable=True))
    picture.clock.time += 2
    assert refused(picture, "p") == "0/2 nodes are available: 2 node(s) were unschedulable."


def test_back_off_grows_and_a_helpful_change_is_not_waited_out_for_long(picture):
    picture.put(node("n1", unschedulable=True))
    pending(picture)
    waits = []
    for _ in range(5):
        picture.plan("default/p")
        waits.append(picture.plan("default/p").again_s)
        picture.clock.time += waits[-1]
    assert waits == [1, 2, 4, 8, 8]
    picture.dirty[NAME].clear()
    picture.put(node("n1"))
    assert picture.dirty[NAME] == ["default/p"]
    assert placed(picture, "p") == "n1"


def test_pods_of_another_scheduler_bound_or_leaving_are_not_its_business(picture):
    picture.put(node("n1"))
    pending(picture, "theirs", spec={"schedulerName": "mine"})
    pending(picture, "bound", node="n1")
    pending(picture, "leaving", deletionTimestamp="2026-01-01T00:00:00Z")
    for name in ("theirs", "bound", "leaving", "gone"):
        assert not picture.plan(f"default/{name}").actions
    assert not picture.dirty[NAME]


def test_a_node_that_is_gone_takes_nothing_any_more(picture):
    picture.put(node("n1"))
    picture.put(pod("old", node="n1"))
    picture.drop("nodes", "n1")
    assert refused(picture, pending(picture)) == "no nodes available to schedule pods"
    picture.drop("pods", "default/old")
    picture.put(node("n1"))
    picture.clock.time += 1
    assert placed(picture, "p") == "n1"


def test_in_a_large_cluster_it_compares_enough_nodes_and_gives_all_their_share():
    picture = Picture([Scheduler(SchedulerSettings(enough_nodes=3))])
    for number in range(30):
        picture.put(node(f"n{number:02}"))
    where = {placed(picture, pending(picture, f"p{number}", labels={"n": str(number)})) for number in range(60)}
    assert len(where) > 20


def test_a_plan_changes_nothing_until_it_is_decided(picture):
    """The same view gives the same plan, as often as it is asked; only `decided` makes it count."""
    picture.put(node("n1", cpu="1"))
    picture.put(node("n2", cpu="1"))
    picture.put(pod("p", cpu="1"))
    (scheduler,) = picture.controllers
    asked = [scheduler.plan(picture.view, "default/p", 1000.0, Random(3)) for _ in range(3)]
    assert asked[0] == asked[1] == asked[2] and isinstance(asked[0].actions[0], Bind)
    scheduler.decided(picture.view, "default/p", asked[0], 1000.0)
    picture.put(pod("q", cpu="1"))
    (bind,) = scheduler.plan(picture.view, "default/q", 1000.0, Random(3)).actions
    assert bind.node != asked[0].actions[0].node, "the first counts already"
    again = scheduler.plan(picture.view, "default/p", 1000.0, Random(3))
    assert isinstance(again.actions[0], Bind), "a binding that came to nothing does not stand in its own way"
