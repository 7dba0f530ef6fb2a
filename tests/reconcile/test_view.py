import msgspec

from labctl.reconcile.view import LiveView
from labctl.sim.objects import pod
from labctl.sim.picture import Picture, StillClock
from labctl.store.interface import Entry, Page


class Probe:
    """A controller that only declares indexes."""

    name = "probe"
    kind = "pods"
    watches = {}
    indexes = {
        ("pods", "node"): lambda view: (view.spec.node_name,) if view.spec.node_name else (),
        ("pods", "label"): lambda view: [f"{k}={v}" for k, v in view.metadata.labels.items()],
    }

    def plan(self, view, key, now, rng):
        raise NotImplementedError


def names(views):
    return [view.metadata.name for view in views]


def test_objects_are_found_by_key_by_index_and_in_key_order():
    picture = Picture([Probe()])
    for name in ("c", "a", "b"):
        picture.put(pod(name, node="n1"))
    assert names(picture.view.all("pods")) == ["a", "b", "c"]
    assert names(picture.view.by("pods", "node", "n1")) == ["a", "b", "c"]
    assert picture.view.count("pods", "node", "n1") == 3
    assert picture.view.get("pods", "default/a").spec.node_name == "n1"
    assert picture.view.get("pods", "default/z") is None
    assert picture.view.by("pods", "node", "n2") == ()


def test_a_kind_is_there_as_long_as_it_has_objects():
    picture = Picture([Probe()])
    assert not picture.view.has("pods")
    picture.put(pod("a"))
    assert picture.view.has("pods")
    assert not picture.view.has("nodes")
    picture.drop("pods", "default/a")
    assert not picture.view.has("pods")
    assert names(picture.view.all("pods")) == []


def test_a_change_moves_an_object_between_values():
    picture = Picture([Probe()])
    picture.put(pod("a", labels={"x": "1", "y": "1"}))
    picture.put(pod("a", labels={"x": "2", "y": "1"}))
    assert names(picture.view.by("pods", "label", "x=1")) == []
    assert names(picture.view.by("pods", "label", "x=2")) == ["a"]
    assert names(picture.view.by("pods", "label", "y=1")) == ["a"]
    picture.drop("pods", "default/a")
    assert picture.view.count("pods", "label", "y=1") == 0


def test_all_of_one_namespace_only():
    picture = Picture()
    picture.put(pod("a", namespace="team"))
    picture.put(pod("b", namespace="team-2"))
    picture.put(pod("c", namespace="tea"))
    assert names(picture.view.all("pods", "team")) == ["a"]


def test_since_is_when_it_came_under_the_value_and_seen_when_it_last_changed():
    picture = Picture([Probe()])
    picture.put(pod("a", labels={"x": "1"}))
    picture.clock.time += 10
    picture.put(pod("a", labels={"x": "1", "y": "1"}))
    assert picture.view.since("pods", "label", "x=1", "default/a") == 1000
    assert picture.view.since("pods", "label", "y=1", "default/a") == 1010
    assert picture.view.seen("pods", "default/a") == 1010


def test_after_a_jump_of_the_clock_everything_counts_from_now():
    picture = Picture([Probe()])
    picture.put(pod("a", labels={"x": "1"}))
    picture.clock.time += 100
    picture.view.begin_anew()
    assert picture.view.seen("pods", "default/a") == 1100
    assert picture.view.since("pods", "label", "x=1", "default/a") == 1100


def entry(name: str, revision: int, created: int) -> Entry:
    return Entry(f"pods/default/{name}", msgspec.json.encode(pod(name)), revision, created)


def test_loading_again_answers_the_difference_and_keeps_times():
    picture = Picture()
    clock = StillClock()
    view = LiveView(picture._decode, clock)
    first = view.load(Page([entry("a", 3, 3), entry("b", 2, 2), entry("c", 1, 1)], 3))
    assert [seen.key for seen in first] == ["default/c", "default/b", "default/a"], "in the order of creation"
    clock.time += 5
    again = view.load(Page([entry("a", 3, 3), entry("c", 7, 1), entry("d", 8, 8)], 9))
    assert [(seen.key, seen.old is None, seen.new is None) for seen in again] == [
        ("default/c", False, False),
        ("default/d", True, False),
        ("default/b", False, True),
    ]
    assert view.seen("pods", "default/a") == 1000
    assert view.seen("pods", "default/c") == 1005
    assert view.revision == 9


def test_keys_that_are_no_object_are_not_seen():
    picture = Picture()
    view = LiveView(picture._decode, StillClock())
    assert view.load(Page([Entry("claims/vip/10.247.0.1", b"", 1, 1)], 1)) == []
