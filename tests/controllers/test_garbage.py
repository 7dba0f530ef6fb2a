import pytest

from labctl.controllers.builtin import builtin_controllers
from labctl.controllers.garbage import Garbage
from labctl.reconcile.plan import Delete, Patch
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
    (deletion,) = picture.plan("replicationcontrollers/default/web").actions
    assert isinstance(deletion, Delete) and deletion.propagation == "Foreground"
    picture.put(pod("a", owner=rc, deletionTimestamp=LEAVING))
    assert not picture.plan("replicationcontrollers/default/web").actions
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
