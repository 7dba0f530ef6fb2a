"""Each checker can fail: labctl's code is broken on purpose, and the checker that looks for just that says so."""

import asyncio
from itertools import count

import msgspec

from labctl.controllers import evictions
from labctl.controllers.endpointslices import EndpointSlices
from labctl.controllers.replication import Replication
from labctl.proxy import frontends
from labctl.reconcile.plan import NOTHING
from labctl.resources.kinds.core_v1 import service as services
from labctl.resources.verbs.allocation import StoreRanges
from labctl.sim import hollow
from labctl.sim.clock import run
from labctl.sim.containers import Running
from labctl.sim.engine import FaultyEngine
from labctl.sim.hollow import HollowNode
from labctl.sim.objects import replication_controller, service, stateful_set
from labctl.sim.scenario import LAB, play_case
from labctl.sim.script import Case, Deed
from labctl.sim.settings import LAB_NODES, ScenarioSettings
from labctl.sim.shrink import Shrinker
from labctl.sim.world import World
from labctl.store.interface import Put
from labctl.store.log import Watcher


def lived(story, nodes=3, **world):
    """What is wrong in a small world after a story."""

    async def live():
        made = World(1, proxies=2, **world)
        await made.start(nodes)
        await made.client.create("replicationcontrollers", replication_controller("web", 3))
        made.told.note("services", await made.client.create("services", service("web", {"name": "web"})))
        await made.calm(20)
        await story(made)
        found = [*made.wrong, *await made.calm(20), *made.lost()]
        await made.stop()
        return found

    return run(live())


async def nothing(_world):
    pass


def test_a_world_in_which_nothing_is_broken_is_right():
    assert lived(nothing) == []


def test_rules_that_miss_an_endpoint_are_seen(monkeypatch):
    made = frontends._frontend
    monkeypatch.setattr(frontends, "_frontend", lambda service, port, ready, leaving: made(service, port, set(sorted(ready)[:-1]), leaving))
    assert any("the rules of default/web reach" in sentence for sentence in lived(nothing))


def test_slices_that_do_not_follow_are_seen(monkeypatch):
    monkeypatch.setattr(EndpointSlices, "plan", lambda *_: NOTHING)
    assert any(sentence.startswith("endpointslices of default/web") for sentence in lived(nothing))


def test_two_pods_with_one_address_are_seen(monkeypatch):
    monkeypatch.setattr(hollow, "Running", lambda key, uid, _ip, began: Running(key, uid, "10.128.0.9", began))
    assert any("both have the address 10.128.0.9" in sentence for sentence in lived(nothing))


def test_two_services_with_one_virtual_address_are_seen():
    found = lived(_same_address)
    assert any("belongs to service default/second and service default/web" in sentence for sentence in found)


async def _same_address(world):
    """Write into the log what a missing claim would let through."""
    await world.client.create("services", service("second", {"name": "web"}))
    first, second = (world.client.get("services", f"default/{name}").spec.cluster_ip.encode() for name in ("web", "second"))
    value = world.store.get("services/default/second").value
    await world.store.commit([Put("services/default/second", value.replace(second, first))])


def test_two_services_with_one_node_port_are_seen(monkeypatch):
    """Nobody looks whether a port is taken, and each claim stands under a key of its own."""
    numbers, claim = count(), services.port_claim
    monkeypatch.setattr(StoreRanges, "port", lambda _self, wanted=0: wanted)
    monkeypatch.setattr(services, "port_claim", lambda port: f"{claim(port)}-{next(numbers)}")

    async def both(world):
        for name in ("first", "second"):
            port = {"port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30080}
            await world.client.create("services", service(name, {"name": "web"}, port, type="NodePort"))

    assert any("node port 30080/TCP belongs to service default/first and service default/second" in each for each in lived(both))


def test_a_controller_that_makes_too_few_pods_is_seen(monkeypatch):
    scale = Replication._scale
    monkeypatch.setattr(Replication, "_scale", lambda *given: list(scale(*given))[1:])
    assert any("rc default/web wants 3: 2 pods exist" in sentence for sentence in lived(nothing))


def test_a_controller_that_counts_wrongly_is_seen(monkeypatch):
    status = Replication.status
    monkeypatch.setattr(Replication, "status", lambda *given: {**status(*given), "readyReplicas": 2})
    assert "rc default/web says 3 replicas, 2 ready, and wants 3" in lived(nothing)


def test_a_pod_that_is_ready_and_does_not_run_is_seen():
    async def end(world):
        node = next(node for node in world.fleet.nodes.values() if node.running)
        node.running.clear()

    assert any("3 are ready, 2 of these really run" in sentence or "1 of these really run" in sentence for sentence in lived(end))


def test_a_pod_that_runs_on_after_its_deletion_is_seen(monkeypatch):
    monkeypatch.setattr(HollowNode, "pod_gone", lambda *_: None)

    async def force(world):
        pod = world.client.list("pods")[0]
        await world.client.delete("pods", pod.metadata.key, grace_s=0)

    assert any("and the API knows nothing of it" in sentence for sentence in lived(force))


def test_a_log_that_forgets_what_it_acknowledged_is_seen(monkeypatch):
    async def append(self, group):
        if self._revision > 20:
            self._revision = group[-1].revision  # as a disk whose fsync lies
        else:
            await super(FaultyEngine, self).append(group)

    monkeypatch.setattr(FaultyEngine, "append", append)
    assert any("after a restart" in sentence for sentence in lived(nothing))


def test_a_write_that_is_acknowledged_and_never_made_is_seen():
    async def lie(world):
        written = world.client.get("services", "default/web")
        metadata = msgspec.structs.replace(written.metadata, resource_version=str(world.store.revision + 5))
        world.told.note("services", msgspec.structs.replace(written, metadata=metadata))

    assert any("was acknowledged, and the log has it at" in sentence for sentence in lived(lie))


def test_a_watch_with_a_gap_is_seen(monkeypatch):
    take = Watcher.take
    monkeypatch.setattr(Watcher, "take", lambda self: [batch for batch in take(self) if batch.revision % 17])
    found = lived(nothing)
    assert any("has a gap" in sentence or "watchers know" in sentence for sentence in found)


def test_a_singleton_that_is_replaced_while_it_may_run_is_seen(monkeypatch):
    """The eviction that a silent node gets removes its pods at once, as if the node were known to be off."""
    monkeypatch.setattr(evictions, "_fenced", lambda _pod, _node: True)

    async def silence(world):
        await world.client.create("statefulsets.apps", stateful_set("one", 1))
        await asyncio.sleep(5)
        name = world.client.get("pods", "default/one-0").spec.node_name
        world.fleet.links.cut(name)
        await asyncio.sleep(30)

    found = lived(silence, controllers=LAB, hollow=LAB_NODES)
    assert any("pod default/one-0 runs on" in sentence for sentence in found), found
    assert any("the API let go of pod default/one-0 while it runs" in sentence for sentence in found)


def test_a_failing_run_is_made_smaller_and_is_always_the_same_small_one():
    deeds = tuple(
        Deed(1.0, what, number) for number, what in enumerate(("scale", "clock", "cordon", "power", "scale-set", "disk", "disk", "silence"))
    )
    played = []

    def fails(case):
        played.append(case)
        names = [deed.what for deed in case.deeds]
        return "power" in names and "silence" in names and case.nodes >= 2

    small = Shrinker(fails).smaller(Case(1, 5, deeds))
    assert [deed.what for deed in small.deeds] == ["power", "silence"] and small.nodes == 2
    first = list(played)
    played.clear()
    assert Shrinker(fails).smaller(Case(1, 5, deeds)) == small and played == first
    assert len(first) < 60
    played.clear()
    Shrinker(fails, tries=3).smaller(Case(1, 5, deeds))
    assert len(played) == 3


def test_a_broken_control_plane_is_shrunk_for_real(monkeypatch):
    monkeypatch.setattr(evictions, "_fenced", lambda _pod, _node: True)
    settings = ScenarioSettings(nodes=4, steps=12, lab_timing=True)
    deeds = tuple(
        Deed(20.0, what, number)
        for number, what in enumerate(("scale", "clock", "cut", "restart-master", "cut", "scale", "cut", "flush-rules"))
    )
    case = Case(3, 4, deeds, lab_timing=True)
    fails = lambda case: bool(play_case(case, settings).wrong)  # noqa: E731
    assert fails(case)
    small = Shrinker(fails, tries=40).smaller(case)
    assert len(small.deeds) <= 2 and "cut" in {deed.what for deed in small.deeds} and small.nodes == 2
