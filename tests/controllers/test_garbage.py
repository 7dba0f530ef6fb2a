import pytest

from labctl.controllers.builtin import builtin_controllers
from labctl.controllers.garbage import Garbage
from labctl.reconcile.plan import Delete, Patch, Record
from labctl.resources.registry import builtin_registry
from labctl.sim.objects import pod, reference, replication_controller
from labctl.sim.picture import Picture

NAME = "garbage-collector"
LEAVING = "2026-01-01T00:00:00Z"


@pytest.fixture
def picture():
    registry = builtin_registry()
    return Picture([c for c in builtin_controllers(registry) if isinstance(c, Garbage)], registry)


def owner(picture, name="web", *finalizers):
    obj = replication_controller(name, 1)
    if finalizers:
        obj["metadata"] |= {"finalizers": list(finalizers), "deletionTimestamp": LEAVING}
    return picture.put(obj)


def test_nothing_happens_while_the_owner_lives(picture):
    picture.put(pod("a", owner=owner(picture)))
    assert not picture.dirty[NAME]
    assert not picture.plan("pods/default/a").actions


def test_dependents_go_when_their_owner_is_gone(picture):
    rc = owner(picture)
    a = picture.put(pod("a", owner=rc))
    picture.drop("replicationcontrollers", "default/web")
    assert picture.dirty[NAME] == ["pods/default/a"]
    (deletion,) = picture.plan("pods/default/a").actions
    assert isinstance(deletion, Delete) and deletion.uid == a.metadata.uid
    assert deletion.why == "deleted because its owner is gone: ReplicationController web"


def test_another_object_of_the_same_name_is_not_the_owner(picture):
    rc = owner(picture)
    picture.put(pod("a", owner=rc))
    picture.drop("replicationcontrollers", "default/web")
    owner(picture)
    assert isinstance(picture.plan("pods/default/a").actions[0], Delete)


def test_one_of_two_owners_is_enough_to_live(picture):
    rc, other = owner(picture), owner(picture, "other")
    obj = pod("a", owner=rc)
    obj["metadata"]["ownerReferences"].append({**reference(other), "controller": False})
    picture.put(obj)
    picture.drop("replicationcontrollers", "default/web")
    (patch,) = picture.plan("pods/default/a").actions
    assert [o["name"] for o in patch.patch["metadata"]["ownerReferences"]] == ["other"]


def test_an_owner_of_a_kind_that_is_not_served_is_not_judged(picture):
    obj = pod("a")
    obj["metadata"]["ownerReferences"] = [{"apiVersion": "example.com/v1", "kind": "Thing", "name": "x", "uid": "y"}]
    picture.put(obj)
    assert not picture.plan("pods/default/a").actions


def test_what_has_a_false_owner_from_the_beginning_is_garbage(picture):
    obj = pod("a")
    obj["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "ReplicationController", "name": "never", "uid": "was"}]
    picture.put(obj)
    assert picture.dirty[NAME] == ["pods/default/a"]


def test_foreground_waits_until_blocking_dependents_are_gone(picture):
    rc = owner(picture, "web", "foregroundDeletion")
    picture.put(pod("a", owner=rc))
    assert not picture.plan("replicationcontrollers/default/web").actions
    (deletion,) = picture.plan("pods/default/a").actions
    assert isinstance(deletion, Delete) and deletion.why == "deleted with its owner ReplicationController web"
    assert deletion.propagation == "Background", "it has no dependents of its own"
    picture.put(pod("a", owner=rc, deletionTimestamp=LEAVING))
    assert not picture.plan("replicationcontrollers/default/web").actions and not picture.plan("pods/default/a").actions
    picture.dirty[NAME].clear()
    picture.drop("pods", "default/a")
    assert picture.dirty[NAME] == ["replicationcontrollers/default/web"]
    (patch,) = picture.plan("replicationcontrollers/default/web").actions
    assert isinstance(patch, Patch) and patch.patch == {"metadata": {"finalizers": None}}


def test_orphans_forget_their_owner_before_it_goes(picture):
    rc = owner(picture, "web", "orphan", "keep")
    picture.put(pod("a", owner=rc))
    (patch,) = picture.plan("replicationcontrollers/default/web").actions
    assert (patch.key, patch.patch) == ("default/a", {"metadata": {"ownerReferences": None}})
    picture.dirty[NAME].clear()
    picture.put(pod("a"))
    assert "replicationcontrollers/default/web" in picture.dirty[NAME]
    (patch,) = picture.plan("replicationcontrollers/default/web").actions
    assert patch.patch == {"metadata": {"finalizers": ["keep"]}}


# -- each rule of the documentation ------------------------------------------------------------------------------------


def config_map(name, *owners, namespace="default", **metadata):
    return {"kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace, "ownerReferences": list(owners), **metadata}}


def refer(view, kind="ConfigMap", block=True):
    metadata = view.metadata
    return {"apiVersion": "v1", "kind": kind, "name": metadata.name, "uid": metadata.uid, "blockOwnerDeletion": block}


def namespace(picture, name, *owners):
    return picture.put({"kind": "Namespace", "metadata": {"name": name, "ownerReferences": list(owners)}})


def event_of(plan):
    (record,) = [action for action in plan.actions if isinstance(action, Record)]
    return record


def test_a_dependent_without_a_namespace_outlives_an_owner_that_has_one(picture):
    one = picture.put(config_map("one"))
    namespace(picture, "team", refer(one))
    picture.drop("configmaps", "default/one")
    assert "namespaces/team" in picture.dirty[NAME]
    plan = picture.plan("namespaces/team")
    assert plan.actions == [event_of(plan)]
    assert (event_of(plan).reason, event_of(plan).type, event_of(plan).key) == ("OwnerRefInvalidNamespace", "Warning", "team")
    said = f'ownerRef [v1/ConfigMap, namespace: , name: one, uid: {one.metadata.uid}] does not exist in namespace ""'
    assert event_of(plan).message == said
    picture.dirty[NAME].clear()
    namespace(picture, "team", refer(one))
    assert not picture.dirty[NAME], "the Event is told once"


def test_an_owner_in_another_namespace_is_absent(picture):
    namespace(picture, "default"), namespace(picture, "team")
    one = picture.put(config_map("one"))
    picture.put(config_map("two", refer(one), namespace="team"))
    assert picture.dirty[NAME] == ["configmaps/team/two"]
    plan = picture.plan("configmaps/team/two")
    assert 'does not exist in namespace "team"' in event_of(plan).message
    assert isinstance(plan.actions[-1], Delete)


def test_an_owner_without_a_namespace_owns_in_every_namespace(picture):
    team = namespace(picture, "team")
    picture.put(config_map("one", refer(team, "Namespace")))
    assert not picture.dirty[NAME] and not picture.plan("configmaps/default/one").actions


@pytest.mark.parametrize("wrong", [{"kind": "Secret"}, {"name": "other"}, {"uid": "other"}])
def test_a_reference_that_names_something_else_is_absent(picture, wrong):
    one = picture.put(config_map("one"))
    picture.put(config_map("two", {**refer(one), **wrong}))
    (deletion,) = picture.plan("configmaps/default/two").actions
    assert isinstance(deletion, Delete) and deletion.propagation == "Background"


def test_an_owner_of_an_unknown_kind_is_looked_for_again_and_holds_all(picture):
    gone = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "gone"}
    picture.put(config_map("one", gone, {"apiVersion": "example.com/v1", "kind": "Thing", "name": "x", "uid": "y"}))
    plan = picture.plan("configmaps/default/one")
    assert not plan.actions and plan.again_s
    assert picture.dirty[NAME] == ["configmaps/default/one"]


def test_a_dependent_of_a_waiting_and_a_solid_owner_stays_with_the_solid_one(picture):
    waiting = picture.put(config_map("waiting", finalizers=["foregroundDeletion"], deletionTimestamp=LEAVING))
    solid = picture.put(config_map("solid"))
    gone = {**refer(solid), "uid": "gone", "name": "gone"}
    picture.put(config_map("one", refer(waiting), refer(solid), gone))
    (patch,) = picture.plan("configmaps/default/one").actions
    assert isinstance(patch, Patch)
    assert [owner["name"] for owner in patch.patch["metadata"]["ownerReferences"]] == ["solid"]


def test_what_has_dependents_itself_goes_in_the_foreground_with_its_waiting_owner(picture):
    top = picture.put(config_map("top"))
    middle = picture.put(config_map("middle", refer(top)))
    picture.put(config_map("low", refer(middle)))
    picture.dirty[NAME].clear()
    picture.put(config_map("top", finalizers=["foregroundDeletion"], deletionTimestamp=LEAVING))
    assert picture.dirty[NAME] == ["configmaps/default/top", "configmaps/default/middle"]
    (deletion,) = picture.plan("configmaps/default/middle").actions
    assert deletion.propagation == "Foreground"


def test_dependents_that_do_not_block_are_deleted_and_not_waited_for(picture):
    top = picture.put(config_map("top", finalizers=["foregroundDeletion"], deletionTimestamp=LEAVING))
    picture.put(config_map("one", refer(top, block=False)))
    assert isinstance(picture.plan("configmaps/default/one").actions[0], Delete)
    assert isinstance(picture.plan("configmaps/default/top").actions[0], Patch)


def test_garbage_goes_as_its_own_finalizers_say(picture):
    gone = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "gone"}
    picture.put(config_map("orphans", gone, finalizers=["orphan"]))
    picture.put(config_map("front", gone, finalizers=["foregroundDeletion"]))
    assert picture.plan("configmaps/default/orphans").actions[0].propagation == "Orphan"
    assert picture.plan("configmaps/default/front").actions[0].propagation == "Foreground"
    rc = replication_controller("web", 1)
    picture.put({**rc, "metadata": {**rc["metadata"], "ownerReferences": [gone]}})
    assert picture.plan("replicationcontrollers/default/web").actions[0].propagation == "Background", "not the kind's own default"


def test_what_is_being_deleted_already_is_left_alone(picture):
    gone = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "gone"}
    picture.put(config_map("one", gone, finalizers=["mine"], deletionTimestamp=LEAVING))
    assert not picture.plan("configmaps/default/one").actions


def test_events_are_no_garbage(picture):
    gone = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "gone"}
    picture.put({"kind": "Event", "metadata": {"name": "e", "namespace": "default", "ownerReferences": [gone]}})
    assert not picture.dirty[NAME]
