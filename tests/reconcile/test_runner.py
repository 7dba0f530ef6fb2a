"""The runner on real resources and a store that can fail, in virtual time."""

import asyncio
from random import Random

import pytest

from labctl.errors import ApiError
from labctl.journal import MemoryJournal
from labctl.reconcile.following import indexes_of
from labctl.reconcile.plan import EVERY, NOTHING, Create, Patch, Plan, Record
from labctl.reconcile.runner import Runner
from labctl.reconcile.settings import ReconcileSettings
from labctl.resources.client import Client
from labctl.resources.events import Recorder
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Kind
from labctl.resources.registry import builtin_registry
from labctl.resources.resources import Resources
from labctl.sim.clock import VirtualClock, run
from labctl.sim.engine import FaultyEngine
from labctl.store.log import LogStore
from labctl.store.settings import StoreSettings

MAP = "default/map"
OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "map", "uid": "u-1"}


class Probe:
    """A controller of ConfigMaps whose plan is what the test says; it counts how often each key was planned."""

    kind = "configmaps"
    indexes = {}

    def __init__(self, plan, name="probe"):
        self.name = name
        self._plan = plan
        self.planned = []
        self.watches = {"configmaps": lambda _view, seen: (seen.key,)}

    def plan(self, view, key, now, rng):
        self.planned.append((now, key, view.revision))
        return self._plan(view, key)


class Rig:
    def __init__(self, *probes, settings=ReconcileSettings(), store=StoreSettings(), client=None):
        self.clock = VirtualClock()
        self.journal = MemoryJournal(self.clock)
        self.engine = FaultyEngine(Random(1), delay_s=0.01)
        self.store = LogStore(self.engine, store)
        self.resources = Resources(self.store, builtin_registry(), self.clock, self.journal, Random(1))
        self.client = Client(self.resources)
        writer = client(self) if client else self.client
        recorder = lambda component: Recorder(self.client, component, self.clock)  # noqa: E731
        self.runner = Runner(self.resources, writer, recorder, probes, self.clock, self.journal, Random(1), settings)

    async def put(self, name="map", **data):
        body = {"metadata": {"name": name, "namespace": "default"}, "data": data}
        await self.client.create("configmaps", body)

    def told(self, room="probe"):
        return [line.text for line in self.journal.lines if line.room == room]


def live(story, *probes, **kw):
    async def lived():
        rig = Rig(*probes, **kw)
        await rig.client.create("namespaces", {"metadata": {"name": "default"}})
        await rig.runner.start()
        await story(rig)
        await rig.runner.stop()
        await rig.store.close()

    run(lived())


def count_up(limit):
    """Adds one until the limit: planned on a stale view it would add twice."""

    def plan(view, key):
        there = view.get("configmaps", key)
        raw = view.raw("configmaps", key)
        if there is None or int(raw["data"]["n"]) >= limit:
            return NOTHING
        n = str(int(raw["data"]["n"]) + 1)
        return Plan([Patch("configmaps", key, {"data": {"n": n}}, revision=there.metadata.revision, why=f"counted to {n}")])

    return plan


def test_a_key_is_planned_again_only_on_a_view_that_shows_its_own_write():
    probe = Probe(count_up(5))

    async def story(rig):
        await rig.put(n="0")
        await asyncio.sleep(5)
        assert rig.client.raw("configmaps", MAP)["data"]["n"] == "5"
        assert rig.told() == [f"counted to {n}" for n in range(1, 6)]
        assert len(probe.planned) == 6, "never on a view that was behind"
        assert rig.runner.idle
        assert rig.runner.why("configmaps", MAP) == "counted to 5"

    live(story, probe)


def test_what_is_there_at_the_start_is_planned():
    probe = Probe(lambda view, key: NOTHING)

    async def lived():
        rig = Rig(probe)
        await rig.client.create("namespaces", {"metadata": {"name": "default"}})
        await rig.put("a")
        await rig.put("b")
        await rig.runner.start()
        await asyncio.sleep(0.1)
        assert [key for _, key, _ in probe.planned] == ["default/a", "default/b"]
        await rig.runner.stop()

    run(lived())


def test_a_refusal_backs_off_and_says_why():
    """An object that can't be made: each try later than the one before, and never the end of the runner."""
    bad = {"metadata": {"name": "x", "namespace": "default"}, "spec": {"replicas": -1}}
    probe = Probe(lambda view, key: Plan([Create("replicationcontrollers", bad)]))

    async def story(rig):
        await rig.put()
        await asyncio.sleep(10)
        times = [now for now, _, _ in probe.planned]
        gaps = [b - a for a, b in zip(times, times[1:])]
        assert all(b > 1.9 * a for a, b in zip(gaps, gaps[1:])), gaps
        assert any("Invalid value: -1" in text for text in rig.told())
        events = [(e.reason, e.type) for e in rig.client.list("events")]
        assert ("FailedCreate", "Warning") in events

    live(story, probe)


def test_what_a_plan_wants_done_after_a_refusal_is_done():
    bad = {"metadata": {"name": "x", "namespace": "default"}, "spec": {"replicas": -1}}
    told = []

    def after(refusals):
        [(action, error)] = refusals
        assert isinstance(action, Create)
        told.append(str(error))
        return [Patch("configmaps", MAP, {"data": {"said": told[-1]}})]

    probe = Probe(lambda view, key: Plan([Create("replicationcontrollers", bad)], refused=after))

    async def story(rig):
        await rig.put()
        await asyncio.sleep(1)
        assert told and rig.client.get("configmaps", MAP).data["said"] == told[0]
        assert "Invalid value: -1" in told[0]

    live(story, probe)


class Racing:
    """A client that meets another writer once."""

    def __init__(self, rig):
        self._client = rig.client
        self.raced = False

    async def patch(self, *args, **kw):
        if not self.raced:
            self.raced = True
            raise ApiError(409, "Conflict", "somebody was first")
        return await self._client.patch(*args, **kw)


def test_who_lost_a_race_plans_again_at_once_and_nobody_is_bothered():
    probe = Probe(count_up(1))

    async def story(rig):
        await rig.put(n="0")
        await asyncio.sleep(0.1)
        assert rig.client.raw("configmaps", MAP)["data"]["n"] == "1"
        assert not any("failed" in text for text in rig.told())

    live(story, probe, client=Racing)


def test_a_plan_that_raises_stops_no_other_key():
    def plan(view, key):
        if key.endswith("bad"):
            raise ZeroDivisionError
        return NOTHING

    probe = Probe(plan)

    async def story(rig):
        await rig.put("bad")
        await rig.put("good")
        await asyncio.sleep(1)
        assert [key for _, key, _ in probe.planned].count("default/good") == 1
        assert [key for _, key, _ in probe.planned].count("default/bad") > 2

    live(story, probe)


def test_a_controller_that_cannot_tell_whom_a_change_concerns_is_alone_with_that():
    deaf, other = Probe(lambda view, key: NOTHING, "deaf"), Probe(lambda view, key: NOTHING, "other")
    deaf.watches = {"configmaps": lambda _view, seen: [seen.nothing]}

    async def story(rig):
        await rig.put()
        await asyncio.sleep(1)
        assert [key for _, key, _ in other.planned] == [MAP]

    live(story, deaf, other)


def test_it_looks_again_when_it_wanted_to_and_not_otherwise():
    probe = Probe(lambda view, key: Plan(again_s=7) if view.get("configmaps", key) else NOTHING)

    async def story(rig):
        await rig.put()
        await asyncio.sleep(30)
        times = [round(now - probe.planned[0][0], 3) for now, _, _ in probe.planned]
        assert times == [0, 7, 14, 21, 28]

    live(story, probe)


def test_a_lost_watch_is_begun_again_and_nothing_is_missed():
    probe = Probe(lambda view, key: NOTHING)

    async def story(rig):
        rig.engine.delay_s = 0
        # More revisions become visible at once than a watcher may be behind.
        await asyncio.gather(*(rig.put(f"m{number:02}") for number in range(40)))
        await asyncio.sleep(1)
        assert any("loads anew" in text for text in rig.told("reconcile"))
        assert {key for _, key, _ in probe.planned} == {f"default/m{number:02}" for number in range(40)}
        await rig.client.delete("configmaps", "default/m00")
        await asyncio.sleep(0.1)
        assert rig.runner.view.get("configmaps", "default/m00") is None

    live(story, probe, store=StoreSettings(watch_backlog=10))


def test_an_ill_disk_only_delays():
    probe = Probe(count_up(3))

    async def story(rig):
        await rig.put(n="0")
        rig.engine.fail = 1.0
        await asyncio.sleep(5)
        rig.engine.fail = 0.0
        await asyncio.sleep(60)
        assert rig.client.raw("configmaps", MAP)["data"]["n"] == "3"

    live(story, probe)


@pytest.mark.parametrize("jump_s", [-500, 500])
def test_after_a_jump_of_the_clock_nothing_is_old(jump_s):
    probe = Probe(lambda view, key: NOTHING)

    async def story(rig):
        await rig.put()
        await asyncio.sleep(100)
        rig.clock.jump(jump_s)
        await asyncio.sleep(6)
        assert any("grace periods begin anew" in text for text in rig.told("reconcile"))
        assert rig.clock.now() - rig.runner.view.seen("configmaps", MAP) < 10

    live(story, probe)


def test_a_process_that_stood_still_knows_it_and_tells():
    """SIGSTOP, or a host so busy that nothing ran: the timers are late. An ordinary wait is not."""
    probe, told = Probe(lambda view, key: Plan(again_s=50)), []

    async def story(rig):
        await rig.put()
        rig.runner.when_awake(lambda: told.append(rig.clock.now()))
        await asyncio.sleep(100)
        assert told == []
        asyncio.get_running_loop().pass_time(5)
        await asyncio.sleep(2)
        assert len(told) == 1 and rig.runner.view.seen("configmaps", MAP) == told[0]
        assert rig.runner.view.begun == rig.runner.view.revision

    live(story, probe)


def test_actions_of_one_plan_go_together_but_not_too_many_at_once():
    def plan(view, key):
        if key != MAP or view.get("configmaps", "default/made-00"):
            return NOTHING
        return Plan([Create("configmaps", {"metadata": {"name": f"made-{n:02}", "namespace": "default"}}) for n in range(20)])

    probe = Probe(plan)
    at_once = []

    class Counting:
        under_way = 0

        def __init__(self, rig):
            self._client = rig.client

        async def create(self, *args):
            self.under_way += 1
            at_once.append(self.under_way)
            try:
                return await self._client.create(*args)
            finally:
                self.under_way -= 1

    async def story(rig):
        await rig.put()
        await asyncio.sleep(2)
        assert len(rig.client.list("configmaps")) == 21
        assert max(at_once) == 8

    live(story, probe, settings=ReconcileSettings(actions_at_once=8), client=Counting)


def test_events_are_told_of_what_succeeded_and_of_the_object_it_is_about():
    event = Record("configmaps", MAP, "Counted", "it was counted")

    def plan(view, key):
        there = view.get("configmaps", key)
        if there is None or "done" in view.raw("configmaps", key).get("data", {}):
            return NOTHING
        return Plan(
            [Patch("configmaps", key, {"data": {"done": "1"}}, event=event), Record("configmaps", key, "Seen", "it was seen", "Warning")]
        )

    async def story(rig):
        await rig.put()
        await asyncio.sleep(3)
        told = {(e.reason, e.type, e.message, e.involved_object.name, e.source.component) for e in rig.client.list("events")}
        assert told == {
            ("Counted", "Normal", "it was counted", "map", "probe"),
            ("Seen", "Warning", "it was seen", "map", "probe"),
        }

    live(story, Probe(plan))


def test_stopping_lets_writes_under_way_finish():
    probe = Probe(count_up(1))

    async def lived():
        rig = Rig(probe)
        await rig.client.create("namespaces", {"metadata": {"name": "default"}})
        await rig.put(n="0")
        rig.engine.delay_s = 1.0
        await rig.runner.start()
        await asyncio.sleep(0.001)
        await rig.runner.stop()
        assert rig.client.raw("configmaps", MAP)["data"]["n"] == "1"

    run(lived())


def test_one_index_name_is_one_function():
    first, second = Probe(None), Probe(None)
    first.indexes = {("pods", "x"): lambda view: ()}
    second.indexes = {("pods", "x"): lambda view: ()}
    with pytest.raises(AssertionError):
        indexes_of([first, second])


def cats(version="v1", **more):
    return Kind("example.com", version, "Cat", "cats", "cat", True, GenericObject, **more)


class Onlooker(Probe):
    """Sees the changes of every kind."""

    indexes = {(EVERY, "owner"): lambda view: [owner.uid for owner in view.metadata.owner_references]}

    def __init__(self):
        super().__init__(lambda view, key: NOTHING)
        self.saw = []
        self.watches = {EVERY: self.see}

    def see(self, view, seen):
        if seen.kind == "cats.example.com":
            self.saw.append((seen.key, seen.old is not None, seen.new is not None))
        return ()


def test_a_kind_that_comes_brings_its_stored_objects_and_one_that_goes_takes_them():
    probe = Onlooker()

    async def story(rig):
        registry = rig.resources.registry
        registry.add(cats())
        body = {"metadata": {"name": "tom", "namespace": "default", "ownerReferences": [OWNER]}}
        await rig.client.create("cats.example.com", body)
        await asyncio.sleep(1)
        assert probe.saw == [("default/tom", False, True)]
        assert [kind for kind, _ in rig.runner.view.everywhere("owner", "u-1")] == ["cats.example.com"]
        registry.remove("cats.example.com")
        assert probe.saw[1:] == [("default/tom", True, False)]
        assert not rig.runner.view.everywhere("owner", "u-1") and not list(rig.runner.view.all("cats.example.com"))
        registry.add(cats())
        assert probe.saw[2:] == [("default/tom", False, True)], "its objects were stored all the time"
        registry.replace(cats(short_names=("c",)))
        assert len(probe.saw) == 3, "the objects are the same"

    live(story, probe)


def test_objects_of_a_kind_that_comes_after_a_restart_are_seen_when_it_comes():
    probe = Onlooker()

    async def story(rig):
        registry = rig.resources.registry
        registry.add(cats())
        await rig.client.create("cats.example.com", {"metadata": {"name": "tom", "namespace": "default"}})
        await rig.runner.stop()
        registry.remove("cats.example.com")
        probe.saw.clear()
        recorder = lambda component: Recorder(rig.client, component, rig.clock)  # noqa: E731
        rig.runner = Runner(rig.resources, rig.client, recorder, [probe], rig.clock, rig.journal, Random(1))
        await rig.runner.start()
        assert not probe.saw
        registry.add(cats())
        assert probe.saw == [("default/tom", False, True)]
        await rig.client.delete("cats.example.com", "default/tom")
        await asyncio.sleep(1)
        assert probe.saw[1:] == [("default/tom", True, False)]

    live(story, probe)


class Follows:
    """An observer of ConfigMaps; a broken one raises at every change."""

    indexes = {}
    follows = ("configmaps",)

    def __init__(self, heard, name, broken=False):
        self.heard, self.name, self._broken = heard, name, broken

    def seen(self, view, change):
        assert not self._broken, "a mistake in an observer"
        self.heard.append((self.name, change.kind, change.key, view.get(change.kind, change.key) is change.new))


def test_observers_are_shown_every_change_once_and_before_controllers_are_asked():
    heard = []
    probe = Probe(lambda view, key: NOTHING)
    probe.watches = {"configmaps": lambda _view, seen: heard.append(("controller", seen.kind, seen.key, True)) or (seen.key,)}

    async def story(rig):
        await rig.put("one")
        await rig.client.create("secrets", {"metadata": {"name": "one", "namespace": "default"}})
        await rig.client.delete("configmaps", "default/one")
        await asyncio.sleep(1)
        each = [(name, "configmaps", "default/one", True) for name in ("first", "second", "controller")]
        assert heard == each * 2 and len(probe.planned) <= 2
        assert any(line.about == "task/observer-broken" for line in rig.journal.lines)

    live(story, probe, Follows(heard, "first"), Follows(heard, "broken", broken=True), Follows(heard, "second"))


def noted(rig):
    return [line for line in rig.journal.lines if line.room == "probe"]


def test_a_line_names_the_revisions_that_led_to_it_and_not_others():
    """Changes come while the key's first plan is carried out, and a change of another object between them: the writes are due to the object's own."""

    def plan(view, key):
        annotations = view.get("configmaps", key).metadata.annotations
        if annotations.get("seen") == annotations.get("go"):
            return NOTHING
        return Plan([Patch("configmaps", key, {"metadata": {"annotations": {"seen": annotations["go"]}}}, why=annotations["go"])])

    def go(rig, count):
        return rig.client.patch("configmaps", MAP, {"metadata": {"annotations": {"go": count}}})

    async def story(rig):
        await rig.put()
        await rig.put("other")
        await asyncio.sleep(1)
        first = await go(rig, "1")
        await asyncio.sleep(0.001)
        second, other, third = await asyncio.gather(
            go(rig, "2"), rig.client.patch("configmaps", "default/other", {"data": {"a": "1"}}), go(rig, "3")
        )
        await asyncio.sleep(1)
        lines = noted(rig)
        causes = [{line.cause, *line.also} for line in lines]
        changes = {one.metadata.revision for one in (first, second, third)}
        assert causes[0] == {first.metadata.revision} and (lines[0].did, lines[0].of) == ("patch", "")
        assert changes <= set().union(*causes) and other.metadata.revision not in set().union(*causes)
        assert len(causes[-1]) > 1, "the last write has several causes"

    live(story, Probe(plan))


def test_a_plan_that_waited_is_caused_by_what_made_it_wait():
    plans = iter([Plan((), again_s=5.0), Plan([Patch("configmaps", MAP, {"data": {"b": "2"}}, why="now")])])

    async def story(rig):
        await rig.put()
        made = rig.client.get("configmaps", MAP).metadata.revision
        await asyncio.sleep(10)
        [line] = noted(rig)
        assert line.cause == made and line.t >= 5.0

    live(story, Probe(lambda view, key: next(plans, NOTHING)))
