import pytest

from labctl.controllers.namespaces import Namespaces
from labctl.reconcile.plan import Delete, Patch, Replace
from labctl.resources.registry import builtin_registry
from labctl.sim.objects import pod, service
from labctl.sim.picture import Picture

NAME = "namespace-controller"


@pytest.fixture
def picture():
    return Picture([Namespaces(builtin_registry())])


def namespace(picture, leaving=True):
    metadata = {"name": "team", **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if leaving else {})}
    picture.put({"kind": "Namespace", "metadata": metadata, "spec": {"finalizers": ["kubernetes", "mine"]}})


def put(picture, obj, **metadata):
    obj["metadata"] |= {"namespace": "team", **metadata}
    picture.put(obj)


def test_an_active_namespace_is_left_alone(picture):
    namespace(picture, leaving=False)
    put(picture, pod("a"))
    assert not picture.dirty[NAME]
    assert not picture.plan("team").actions


def deleted(plan):
    return {(action.kind, action.key) for action in plan.actions if isinstance(action, Delete)}


def test_everything_in_it_is_deleted_and_its_conditions_say_what_remains(picture):
    put(picture, pod("a"))
    put(picture, pod("b"), finalizers=["example.com/x"])
    put(picture, service("s", {"name": "web"}))
    picture.put(pod("elsewhere"))
    namespace(picture)
    plan = picture.plan("team")
    assert deleted(plan) == {("pods", "team/a"), ("pods", "team/b")}  # the Service waits until they are gone
    (patch,) = [a for a in plan.actions if isinstance(a, Patch)]
    said = {c["type"]: (c["status"], c["message"]) for c in patch.patch["status"]["conditions"]}
    assert said["NamespaceContentRemaining"] == (
        "True",
        "Some resources are remaining: pods. has 2 resource instances, services. has 1 resource instances",
    )
    assert said["NamespaceFinalizersRemaining"][1] == (
        "Some content in the namespace has finalizers remaining: example.com/x in 1 resource instances"
    )


def test_pods_go_first(picture):
    put(picture, pod("a"), deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["example.com/x"])
    put(picture, service("s", {"name": "web"}))
    namespace(picture)
    assert not deleted(picture.plan("team"))
    picture.drop("pods", "team/a")
    assert deleted(picture.plan("team")) == {("services", "team/s")}


def test_what_is_leaving_already_is_waited_for(picture):
    put(picture, pod("a"), deletionTimestamp="2026-01-01T00:00:00Z")
    namespace(picture)
    assert not [a for a in picture.plan("team").actions if isinstance(a, Delete)]
    picture.dirty[NAME].clear()
    picture.drop("pods", "team/a")
    assert picture.dirty[NAME] == ["team"]


def test_an_empty_one_is_let_go_with_others_finalizers_kept(picture):
    namespace(picture)
    (replace,) = picture.plan("team").actions
    assert isinstance(replace, Replace) and replace.subresource == "finalize"
    assert replace.object["spec"]["finalizers"] == ["mine"]
