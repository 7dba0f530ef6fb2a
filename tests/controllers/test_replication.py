from labctl.controllers.replication import Replication
from labctl.controllers.settings import ControllerSettings
from labctl.errors import ApiError
from labctl.reconcile.plan import Create, Delete, Patch
from labctl.sim.objects import condition, pod, replication_controller
from labctl.sim.picture import Picture

KEY = "default/web"


def of(plan, type_):
    return [action for action in plan.actions if isinstance(action, type_)]


def pods_patched(plan):
    return [action for action in of(plan, Patch) if action.kind == "pods"]


def status(plan):
    (patch,) = [action for action in of(plan, Patch) if action.subresource == "status"]
    return patch.patch["status"]


def picture(replicas=3, settings=ControllerSettings(), **spec):
    made = Picture([Replication(settings)])
    rc = made.put(replication_controller("web", replicas, **spec))
    return made, rc


def own(picture, rc, name, **kw):
    kw.setdefault("labels", {"name": "web"})
    kw.setdefault("ready", True)
    return picture.put(pod(name, owner=rc, **kw))


def test_makes_what_is_missing_from_the_template():
    made, rc = picture(2)
    first, second = of(made.plan(KEY), Create)
    assert first.object["metadata"]["name"] != second.object["metadata"]["name"]
    assert first.object["metadata"]["name"].startswith("web-")
    assert len(first.object["metadata"]["name"]) == len("web-") + 5
    assert first.object["metadata"]["generateName"] == "web-"
    assert first.object["metadata"]["labels"] == {"name": "web"}
    assert first.object["metadata"]["ownerReferences"][0]["uid"] == rc.metadata.uid
    assert first.object["spec"] == {"containers": [{"name": "main", "image": "busybox"}]}
    assert first.event.reason == "SuccessfulCreate"
    assert first.event.message == f"Created pod: {first.object['metadata']['name']}"


def test_starts_carefully_then_doubles_and_never_more_than_a_burst():
    made, rc = picture(1000, ControllerSettings(slow_start=4, burst=50))
    assert len(of(made.plan(KEY), Create)) == 4
    for number in range(20):
        own(made, rc, f"p{number}")
    assert len(of(made.plan(KEY), Create)) == 20
    for number in range(20, 100):
        own(made, rc, f"p{number}")
    assert len(of(made.plan(KEY), Create)) == 50


def test_leaving_and_finished_pods_are_replaced():
    made, rc = picture(2)
    own(made, rc, "a", deletionTimestamp="2026-01-01T00:00:00Z")
    own(made, rc, "b", ready=None, phase="Failed")
    assert len(of(made.plan(KEY), Create)) == 2


def test_adopts_a_matching_pod_without_a_controller_at_the_revision_it_saw():
    made, rc = picture(1)
    orphan = made.put(pod("stray", labels={"name": "web", "more": "x"}))
    plan = made.plan(KEY)
    (adoption,) = pods_patched(plan)
    assert adoption.key == "default/stray"
    assert adoption.revision == orphan.metadata.revision
    assert adoption.patch["metadata"]["ownerReferences"][-1]["uid"] == rc.metadata.uid
    assert not of(plan, Create)


def test_leaves_alone_what_belongs_to_others_or_is_on_its_way_out():
    made, rc = picture(0)
    other = made.put(replication_controller("other", 1, {"name": "web"}))
    made.put(pod("theirs", labels={"name": "web"}, owner=other))
    made.put(pod("leaving", labels={"name": "web"}, deletionTimestamp="2026-01-01T00:00:00Z"))
    made.put(pod("elsewhere", labels={"name": "web"}, namespace="team"))
    plan = made.plan(KEY)
    assert not pods_patched(plan) and not of(plan, Delete)


def test_releases_a_pod_whose_labels_match_no_more_and_makes_another():
    made, rc = picture(1)
    own(made, rc, "changed", labels={"name": "debug"})
    plan = made.plan(KEY)
    (release,) = pods_patched(plan)
    assert release.patch["metadata"]["ownerReferences"] is None
    assert len(of(plan, Create)) == 1


def test_a_controller_that_leaves_neither_makes_nor_adopts():
    made, rc = picture(2)
    obj = replication_controller("web", 2)
    obj["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["foregroundDeletion"]}
    made.put(obj)
    made.put(pod("stray", labels={"name": "web"}))
    plan = made.plan(KEY)
    assert not of(plan, Create) and not pods_patched(plan)


def victims(made):
    return [action.key.partition("/")[2] for action in of(made.plan(KEY), Delete)]


def test_surplus_goes_in_kubernetes_order():
    """Each of these is less useful than the next; taking them away one by one shows the whole order."""
    made, rc = picture(0)
    newer, older = "2026-01-01T00:00:20Z", "2026-01-01T00:00:10Z"

    def ready_since(time):
        return [condition("Ready", "True", lastTransitionTime=time)]

    def put(name, node="n1", phase="Running", ready=True, since=older, restarts=0, created=older, cost=""):
        annotations = {"controller.kubernetes.io/pod-deletion-cost": cost} if cost else {}
        obj = pod(name, node=node, owner=rc, labels={"name": "web"}, creationTimestamp=created, annotations=annotations)
        obj["status"] = {"phase": phase, "containerStatuses": [{"name": "main", "restartCount": restarts}]}
        obj["status"]["conditions"] = ready_since(since) if ready else [condition("Ready", "False")]
        made.put(obj)

    put("1-unassigned", node="", phase="Pending", ready=False)
    put("2-pending", node="n3", phase="Pending", ready=False)
    put("3-not-ready", node="n3", ready=False)
    put("4-cheap", node="n2", cost="-5")
    put("5-doubled", node="n1")
    put("6-doubled", node="n1", created=newer)
    put("7-young-ready", node="n5", since=newer)
    put("8-restarted", node="n6", restarts=3)
    put("9-young", node="n7", created=newer)
    put("9-old", node="n8")
    assert victims(made) == [
        "1-unassigned", "2-pending", "3-not-ready", "4-cheap", "6-doubled", "5-doubled", "7-young-ready", "8-restarted", "9-young", "9-old",
    ]  # fmt: skip


def test_only_the_surplus_is_deleted_with_uid_and_event():
    made, rc = picture(1)
    kept = own(made, rc, "ready", node="n1")
    gone = own(made, rc, "waiting", ready=None)
    (deletion,) = of(made.plan(KEY), Delete)
    assert (deletion.key, deletion.uid) == ("default/waiting", gone.metadata.uid)
    assert deletion.event.message == "Deleted pod: waiting"
    assert kept.metadata.key != deletion.key


def test_status_counts_what_is_active_ready_labelled_and_available():
    made, rc = picture(3, generation=None)
    own(made, rc, "a")
    own(made, rc, "b", ready=False)
    own(made, rc, "c", labels={"name": "web"}, deletionTimestamp="2026-01-01T00:00:00Z")
    assert status(made.plan(KEY)) == {
        "replicas": 2,
        "fullyLabeledReplicas": 2,
        "readyReplicas": 1,
        "availableReplicas": 1,
        "observedGeneration": 0,
    }


def test_nothing_to_do_is_an_empty_plan():
    made, rc = picture(1)
    own(made, rc, "a")
    counted = {"replicas": 1, "fullyLabeledReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    made.put({**replication_controller("web", 1), "status": counted})
    assert not made.plan(KEY).actions


def test_available_only_after_min_ready_seconds_and_it_looks_again_then():
    made, rc = picture(1, minReadySeconds=10)
    own(made, rc, "a")
    made.clock.time += 4
    plan = made.plan(KEY)
    assert status(plan)["availableReplicas"] == 0
    assert plan.again_s == 6
    made.clock.time += 6
    plan = made.plan(KEY)
    assert status(plan)["availableReplicas"] == 1
    assert plan.again_s is None


def test_it_is_woken_by_what_concerns_it_and_by_nothing_else():
    made, rc = picture(1)
    made.dirty["replication-controller"].clear()
    stranger = made.put(pod("x", labels={"name": "db"}))
    assert stranger and not made.dirty["replication-controller"]
    own(made, rc, "a", ready=None)
    assert made.dirty["replication-controller"] == [KEY]
    made.dirty["replication-controller"].clear()
    own(made, rc, "a", ready=None, node="n1")
    assert not made.dirty["replication-controller"], "where a pod runs concerns nobody here"
    own(made, rc, "a", ready=True, node="n1")
    assert set(made.dirty["replication-controller"]) == {KEY}


def test_pods_that_are_refused_are_told_in_the_status_until_all_are_there():
    made, rc = picture(2)
    plan = made.plan(KEY)
    no = ApiError(403, "Forbidden", "pods is forbidden: exceeded quota: q")
    claim = Patch("pods", "default/a", {})
    assert not plan.refused([(claim, no)])  # that is no pod that can't be made
    (patch,) = plan.refused([(claim, ApiError(403, "Forbidden", "another")), (Create("pods", {}), no)])
    (told,) = patch.patch["status"]["conditions"]
    assert (patch.subresource, told["type"], told["status"], told["reason"]) == ("status", "ReplicaFailure", "True", "FailedCreate")
    assert told["message"] == "pods is forbidden: exceeded quota: q"
    status_now = {"conditions": [told, {"type": "Other", "status": "True"}]}
    rc = made.put(
        {
            **replication_controller("web", 2),
            "metadata": {"name": "web", "namespace": "default", "uid": rc.metadata.uid},
            "status": status_now,
        }
    )
    again = ApiError(403, "Forbidden", "another name is forbidden")
    assert not made.plan(KEY).refused([(Create("pods", {}), again)])  # once is enough
    own(made, rc, "a")
    assert "conditions" not in status(made.plan(KEY))  # it still lacks one
    own(made, rc, "b")
    assert status(made.plan(KEY))["conditions"] == [{"type": "Other", "status": "True"}]


def test_a_large_owner_reports_readiness_in_portions_and_replaces_what_is_missing_when_it_is_told():
    """Each report costs as much as there are pods, and a Deployment's report follows from each. A small owner never waits."""
    for replicas, waits in ((20, False), (100, True)):
        made, rc = picture(replicas)
        for number in range(replicas):
            own(made, rc, f"web-{number:03}", ready=False)
        told = {"replicas": replicas, "fullyLabeledReplicas": replicas, "observedGeneration": rc.metadata.generation}
        made.put({**replication_controller("web", replicas), "status": told})
        own(made, rc, "web-000")
        plan = made.plan(KEY)
        assert (not plan.actions and 0 < plan.again_s < 0.2) if waits else status(plan)["readyReplicas"] == 1
        made.clock.time += 0.2
        assert status(made.plan(KEY))["readyReplicas"] == 1
        made.drop("pods", "default/web-001")
        made.put({**replication_controller("web", replicas), "status": told})
        assert of(made.plan(KEY), Create), "a pod that is missing is made at once"
        made.put({**replication_controller("web", replicas + 1), "status": told})
        assert of(made.plan(KEY), Create), "more are wanted than it reported: that never waits"
