"""Timelines of faults in worlds of virtual time: the journal is the real controllers' own."""

import asyncio

from labctl.measure.timeline import FaultFacts, timeline
from labctl.sim.clock import run
from labctl.sim.objects import replication_controller, service
from labctl.sim.settings import HollowSettings
from labctl.sim.world import World

QUICK = HollowSettings(told_s=(0.01, 0.05), start_s=(0.02, 0.2))


def told(fault_type, deed, seconds):
    """The timeline of a deed in a world of three nodes with three pods; `deed(world, pods)` does it and returns its target."""
    found = []

    async def live():
        world = World(1, QUICK)
        await world.start(3)
        await world.client.create("replicationcontrollers", replication_controller("web", 3))
        await world.client.create("services", service("web", {"name": "web"}))
        assert not await world.calm(10, 0.01)
        began = world.clock.now()
        target = await deed(world, [pod for pod in world.client.list("pods") if pod.active])
        await asyncio.sleep(seconds)
        await world.client.patch("replicationcontrollers", "default/web", {"spec": {"replicas": 5}})  # somebody else does something
        await asyncio.sleep(5)
        fault = FaultFacts(name="x", type=fault_type, target=target, injected_s=began)
        found.append(timeline(fault, world.journal.lines))
        await world.stop()

    run(live())
    return found[0]


async def power_off(world, pods):
    await world.power_off(pods[0].spec.node_name)
    return pods[0].spec.node_name


async def silence(world, pods):
    world.fleet.nodes[pods[0].spec.node_name].fall_silent()
    return pods[0].spec.node_name


async def deletion(world, pods):
    await world.client.delete("pods", pods[0].metadata.key)
    return f"pod/{pods[0].metadata.key}"


def what(told, count=None):
    return [(mark.what, mark.by) for mark in told.marks][:count]


REPLACED = [
    ("decided", "replication-controller"),
    ("scheduled", "default-scheduler"),
    ("ready", "agent"),
]


def test_a_power_cut():
    story = told("power-off", power_off, 3)
    assert what(story) == [
        ("injected", "power-off"),
        ("known", "provider"),
        ("endpoint-removed", "endpointslice-controller"),
        ("fenced", "node-controller"),
        ("evicted", "taint-eviction-controller"),
        *REPLACED,
    ]
    assert 0.01 <= story.figures.reaction_s <= 0.05, "as soon as the provider told it"
    assert story.figures.repair_s < 0.4
    revisions = {mark.rev for mark in story.marks}
    chained = [mark for mark in story.marks if mark.what in ("evicted", "decided", "scheduled")]
    assert all(mark.cause in revisions for mark in chained), "each follows from another mark"


def test_silence_is_known_by_its_lease():
    story = told("pause", silence, 400)
    assert what(story, 4) == [
        ("injected", "pause"),
        ("known", "lease"),
        ("fenced", "node-controller"),
        ("endpoint-removed", "endpointslice-controller"),
    ]
    assert what(story)[4:] == [("evicted", "taint-eviction-controller"), *REPLACED]
    assert 30 < story.figures.reaction_s <= 41 and 299 < story.figures.repair_s < 302


def test_a_pod_that_is_deleted():
    story = told("delete", deletion, 60)
    assert what(story) == [
        ("injected", "delete"),
        ("known", "api"),
        ("endpoint-removed", "endpointslice-controller"),
        *REPLACED,
    ]
    assert story.figures.reaction_s == 0.0 and 0 < story.figures.repair_s < 0.4
