"""A silent minion is found soon, and a living one is not given up: the detector for a year, the whole world for minutes, partitions by seeds."""

import asyncio
from random import Random

import pytest

from labctl.sim.clock import run
from labctl.sim.detector import DAY_S, LAB, YEAR_S, Detector, Network, Rule, rule
from labctl.sim.objects import replication_controller, service
from labctl.sim.scenario import LAB as LAB_CONTROLLERS
from labctl.sim.scenario import play
from labctl.sim.settings import LAB_NODES, PARTITIONS, ScenarioSettings
from labctl.sim.world import World


def test_a_year_of_loss_and_jitter_gives_nobody_up():
    assert Detector(1, Network(loss=0.05, jitter_s=0.2), LAB).false_alarms(YEAR_S) == 0
    assert Detector(2, Network(loss=0.05, jitter_s=0.2), LAB).outage_s() < 3


def test_without_peers_the_same_grace_would_give_somebody_up_several_times_a_day():
    alone = Rule(LAB.lease_s, LAB.grace_s, 0, timeout_s=LAB.timeout_s)
    assert Detector(1, Network(), alone).false_alarms(DAY_S) > 10
    assert Detector(1, Network(loss=0.4), LAB).false_alarms(DAY_S / 24) > 0, "the detector can fail: with 40 % loss peers are deaf too"


def test_a_broken_link_of_the_master_is_no_death_and_a_minion_that_stands_still_looks_like_one():
    cuts, stalls = Network(loss=0.0, cuts_a_day=1), Network(loss=0.0, stalls_a_day=10)
    assert Detector(1, cuts, rule(2.0, peers=2)).false_alarms(YEAR_S) == 0 < Detector(1, cuts, rule(2.0, peers=0)).false_alarms(YEAR_S)
    assert Detector(1, stalls, rule(2.0, peers=2)).false_alarms(YEAR_S) > 100
    assert Detector(1, stalls, rule(40.0, peers=0)).false_alarms(YEAR_S) == 0


def test_the_whole_world_with_loss_and_jitter_moves_no_pod():
    """The real controllers, log and endpoints, for ten minutes: renewals come as late as TCP makes them."""

    async def live():
        world = World(1, LAB_NODES, LAB_CONTROLLERS)
        rng = Random(1)
        world.fleet.delay = lambda: next(0.6 * (2**losses - 1) + rng.uniform(0, 0.2) for losses in range(99) if rng.random() > 0.05)
        await world.start(3)
        await world.client.create("replicationcontrollers", replication_controller("web", 3))
        await world.client.create("services", service("web", {"name": "web"}))
        assert not await world.calm(20)
        before = {pod.metadata.uid for pod in world.client.list("pods")}
        lines = len(world.journal.lines)
        await asyncio.sleep(600)
        assert {pod.metadata.uid for pod in world.client.list("pods")} == before and not world.problems() and not world.wrong
        told = [line.text for line in list(world.journal.lines)[lines:] if line.room == "node-controller"]
        await world.stop()
        return told

    assert run(live()) == []


def test_a_minion_that_only_the_master_does_not_reach_keeps_its_pods_and_one_that_nobody_reaches_does_not():
    async def live():
        world = World(2, LAB_NODES, LAB_CONTROLLERS)
        await world.start(3)
        await world.client.create("replicationcontrollers", replication_controller("web", 3))
        assert not await world.calm(20)
        world.fleet.links.cut_between(["minion-1"], ["master"])
        await asyncio.sleep(30)
        assert world.client.get("nodes", "minion-1").ready
        world.fleet.links.heal()
        await asyncio.sleep(2)
        world.fleet.links.cut("minion-1")
        await asyncio.sleep(3)
        assert not world.client.get("nodes", "minion-1").ready
        await asyncio.sleep(2)
        ready = [pod.spec.node_name for pod in world.client.list("pods") if pod.active and pod.ready]
        await world.stop()
        return ready

    ready = run(live())
    assert len(ready) == 3 and "minion-1" not in ready


@pytest.mark.parametrize("seed", range(8))
def test_partitions_end_in_what_was_asked_for(seed):
    outcome = play(seed, ScenarioSettings(nodes=5, steps=20, lab_timing=True, what=PARTITIONS))
    assert not outcome.wrong, outcome.story()
