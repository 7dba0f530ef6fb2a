"""Whole worlds, lived in virtual time. A seed that fails prints its story; `play(seed)` lives it again."""

import asyncio
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from labctl.controllers.settings import ControllerSettings
from labctl.sim.clock import run
from labctl.sim.objects import node, pod, reference, replication_controller, service
from labctl.sim.scenario import LAB, play
from labctl.sim.settings import HollowSettings, ScenarioSettings
from labctl.sim.world import World


@pytest.mark.parametrize("seed", range(30))
def test_safe_under_faults_and_true_again_when_healed(seed):
    outcome = play(seed)
    assert not outcome.wrong, outcome.story()
    assert outcome.calm_s < 120


def test_one_seed_lived_twice_is_one_journal():
    settings = ScenarioSettings(nodes=4, steps=60)
    first, second = play(7, settings), play(7, settings)
    assert len(first.journal) > 100
    assert first.journal == second.journal
    assert first.journal != play(8, settings).journal


QUICK = HollowSettings(told_s=(0.01, 0.05), start_s=(0.02, 0.2))


def lived(story, controllers=ControllerSettings(), seed=1):  # noqa: B008 - frozen
    """Run `await story(world)` in a world of three nodes that has come to rest."""

    async def live():
        world = World(seed, replace(QUICK, lease_s=controllers.lease_s, peers=controllers.peers), controllers)
        await world.start(3)
        assert not await world.calm(10)
        await story(world)
        await world.stop()

    run(live())


async def web(world, replicas=3):
    await world.client.create("replicationcontrollers", replication_controller("web", replicas))
    await world.client.create("services", service("web", {"name": "web"}))
    assert not await world.calm(10, 0.01)


def web_pods(world):
    return [p for p in world.client.list("pods") if p.active]


def test_a_known_death_is_replaced_at_once():
    async def story(world):
        await web(world)
        victim = web_pods(world)[0].spec.node_name
        began = world.clock.now()
        await world.power_off(victim)
        while len([p for p in web_pods(world) if p.ready and p.spec.node_name != victim]) < 3:
            assert world.clock.now() - began < 0.6, "from the plug to the replacements' readiness"
            await asyncio.sleep(0.01)
        dead = {p.status.pod_ip for p in world.client.list("pods") if p.spec.node_name == victim}
        assert not dead

    lived(story)


def test_silence_kills_nobody_before_the_grace_periods_are_over():
    async def story(world):
        await web(world)
        victim = web_pods(world)[0]
        world.fleet.nodes[victim.spec.node_name].fall_silent()
        await asyncio.sleep(45)
        assert not world.client.get("nodes", victim.spec.node_name).ready
        [subset] = world.client.raw("endpoints", "default/web")["subsets"]
        others = {p.status.pod_ip for p in web_pods(world) if p.metadata.uid != victim.metadata.uid}
        assert len(others) == 2 and {address["ip"] for address in subset["addresses"]} == others
        there = world.client.get("pods", victim.metadata.key)
        assert there.metadata.deletion_timestamp is None, "it may still run there"
        await asyncio.sleep(310)
        there = world.client.get("pods", victim.metadata.key)
        assert there.metadata.deletion_timestamp is not None, "evicted, but only its agent may say that it is gone"
        assert len([p for p in web_pods(world) if p.ready]) == 3
        world.fleet.nodes[victim.spec.node_name].speak_again()
        assert not await world.calm(20)
        assert world.client.get("pods", victim.metadata.key) is None

    lived(story)


def test_a_restarted_master_disturbs_nothing():
    async def story(world):
        await web(world)
        before = {p.metadata.uid for p in web_pods(world)}
        lines = len(world.journal.lines)
        await world.restart_master()
        assert not await world.calm(30)
        assert {p.metadata.uid for p in web_pods(world)} == before
        told = [line.text for line in list(world.journal.lines)[lines:]]
        assert not told, told

    lived(story)


def test_draining_moves_everything_and_loses_nothing():
    async def story(world):
        await web(world, 4)
        name = web_pods(world)[0].spec.node_name
        await world.client.patch("nodes", name, {"spec": {"unschedulable": True}})
        registry, resources = world.registry, world.resources
        for p in web_pods(world):
            if p.spec.node_name == name:
                eviction = {"metadata": {"name": p.metadata.name}}
                await resources.create(registry["pods"], "default", eviction, name=p.metadata.name, subresource="eviction")
        await asyncio.sleep(5)
        assert [p.spec.node_name for p in web_pods(world)].count(name) == 0
        assert len([p for p in web_pods(world) if p.ready]) == 4

    lived(story)


def test_a_namespace_that_is_deleted_takes_everything_along():
    async def story(world):
        await world.client.create("namespaces", {"metadata": {"name": "team"}})
        for obj in (replication_controller("web", 3), service("web", {"name": "web"})):
            obj["metadata"]["namespace"] = "team"
            await world.client.create("services" if obj["kind"] == "Service" else "replicationcontrollers", obj)
        await asyncio.sleep(5)
        assert len(world.client.list("pods", "team")) == 3
        await world.client.delete("namespaces", "team")
        await asyncio.sleep(10)
        assert world.client.get("namespaces", "team") is None
        left = [kind.resource for kind in world.registry if kind.namespaced and world.client.list(kind.resource, "team")]
        assert not left

    lived(story)


def test_deleting_a_controller_with_each_propagation():
    async def story(world):
        for propagation, survivors in (("Background", 0), ("Foreground", 0), ("Orphan", 2)):
            await world.client.create("replicationcontrollers", replication_controller("job", 2))
            await asyncio.sleep(5)
            await world.client.delete("replicationcontrollers", "default/job", propagation=propagation)
            await asyncio.sleep(5)
            assert world.client.get("replicationcontrollers", "default/job") is None, propagation
            assert len(world.client.list("pods", "default")) == survivors, propagation
        assert all(not p.metadata.owner_references for p in world.client.list("pods", "default"))

    lived(story)


def test_a_full_cluster_says_so_and_places_the_pod_when_there_is_room():
    async def story(world):
        for number in range(4):
            await world.client.create("pods", pod(f"big-{number}", memory="5Gi"))
        await asyncio.sleep(5)
        (waiting,) = [p for p in world.client.list("pods") if not p.spec.node_name]
        said = "0/3 nodes are available: 3 Insufficient memory. "
        said += "preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod."
        assert waiting.status.conditions[0].message == said
        assert world.runner.why("pods", waiting.metadata.key) == said
        assert [e.message for e in world.client.list("events") if e.reason == "FailedScheduling"] == [said]
        await world.client.delete("pods", "default/big-0" if waiting.metadata.name != "big-0" else "default/big-1")
        await asyncio.sleep(15)
        assert world.client.get("pods", waiting.metadata.key).ready

    lived(story)


def test_the_events_of_a_life_are_kubernetes_own():
    async def story(world):
        await web(world, 1)
        await world.client.patch("replicationcontrollers", "default/web", {"spec": {"replicas": 0}})
        await asyncio.sleep(5)
        told = {(e.source.component, e.reason) for e in world.client.list("events")}
        assert told >= {
            ("replication-controller", "SuccessfulCreate"),
            ("default-scheduler", "Scheduled"),
            ("replication-controller", "SuccessfulDelete"),
        }

    lived(story)


def test_the_checkers_do_see_what_is_wrong():
    async def story(world):
        await web(world)
        victim = web_pods(world)[0]
        here = world.fleet.nodes[victim.spec.node_name]
        elsewhere = next(n for n in world.fleet.nodes.values() if n is not here)
        elsewhere.running[victim.metadata.uid] = here.running[victim.metadata.uid]
        assert any("at once" in problem for problem in world.problems())
        del elsewhere.running[victim.metadata.uid]
        here.running.clear()
        assert any("where nothing runs" in problem for problem in world.problems())
        assert any("really run" in problem for problem in world.problems())

    lived(story)


@pytest.mark.slow
def test_five_thousand_nodes():
    async def live():
        world = World(1, HollowSettings(lease_s=60))
        await world.start(5000)
        await world.client.create("replicationcontrollers", replication_controller("web", 500))
        problems = await world.calm(60, 5)
        assert not problems, problems[:5]
        await world.stop()

    run(live())


def test_pictures_and_worlds_agree_on_what_a_node_is():
    """The small objects that plan functions are tested on are accepted by the real API."""

    async def story(world):
        await world.client.create("nodes", node("extra"))
        assert world.client.get("nodes", "extra") is not None

    lived(story)


def test_the_journal_does_not_depend_on_how_strings_are_hashed():
    """Nothing takes its order from a set: another process with another hash seed lives the same life."""
    code = "import sys; from labctl.sim.scenario import play; sys.stdout.write(repr(play(7).journal))"
    lives = [
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
        for seed in ("1", "2")
    ]
    assert lives[0].stdout == lives[1].stdout
    assert len(lives[0].stdout) > 1000


@pytest.mark.parametrize("asked", [["one"], ["one", "two"], ["one", "two", "three"]])
def test_owners_in_a_circle_go_with_each_other(asked):
    """pod one belongs to three, three to two, two to one; each blocks its owner's deletion."""

    async def story(world):
        made = {name: await world.client.create("configmaps", circle(name)) for name in ("one", "two", "three")}
        for name, owner in (("one", "three"), ("two", "one"), ("three", "two")):
            references = [{**reference(made[owner], "ConfigMap"), "blockOwnerDeletion": True}]
            await world.client.patch("configmaps", f"team/{name}", {"metadata": {"ownerReferences": references}})
        for name in asked:
            await world.client.delete("configmaps", f"team/{name}", propagation="Foreground")
        await asyncio.sleep(2)
        assert not world.client.list("configmaps", "team")
        await world.client.delete("namespaces", "team")
        await asyncio.sleep(5)
        assert world.client.get("namespaces", "team") is None

    def circle(name):
        return {"metadata": {"name": name, "namespace": "team"}}

    async def prepared(world):
        await world.client.create("namespaces", {"metadata": {"name": "team"}})
        await story(world)

    lived(prepared)


def test_a_namespace_outlives_the_config_map_that_it_names_as_its_owner():
    async def story(world):
        owner = await world.client.create("configmaps", {"metadata": {"name": "one", "namespace": "default"}})
        metadata = {"name": "team", "ownerReferences": [reference(owner, "ConfigMap")]}
        await world.client.create("namespaces", {"metadata": metadata})
        await world.client.delete("configmaps", "default/one")
        await asyncio.sleep(120)
        assert world.client.get("namespaces", "team").metadata.deletion_timestamp is None
        told = [event for event in world.client.list("events", "default") if event.reason == "OwnerRefInvalidNamespace"]
        assert len(told) == 1 and told[0].involved_object.name == "team"

    lived(story)


@pytest.mark.parametrize("first", [0, 1, 2])
@pytest.mark.parametrize("apart_s", [0.0, 0.05])
def test_pods_of_machines_that_end_together_stay_bound(first, apart_s):
    """Whichever end is told first: nobody is left to take the pods, so all stay where they are and start again there."""

    async def story(world):
        await web(world, 6)
        before = {p.metadata.uid: p.spec.node_name for p in web_pods(world)}
        nodes = list(world.fleet.nodes.values())
        for one in nodes:
            one.power_off()
        for one in nodes[first:] + nodes[:first]:
            await world._tell(one, "Off", "the host went down")
            await asyncio.sleep(apart_s)
        await asyncio.sleep(60)
        assert {p.metadata.uid: p.spec.node_name for p in world.client.list("pods", "default")} == before
        for one in nodes:  # as `labctl up` asks for all of them, and the machines come one after the other
            request = {"metadata": {"annotations": {"labctl.internal/boot-request": "up"}}}
            await world.client.patch("machines.labctl.internal", one.name, request)
        for one in nodes[first:] + nodes[:first]:
            await asyncio.sleep(5)
            one.power_on()
            await world._tell(one, "On", "")
        assert not await world.calm(60)
        assert {p.metadata.uid: p.spec.node_name for p in web_pods(world)} == before

    lived(story)


@pytest.mark.parametrize("first", [0, 1, 2])
@pytest.mark.parametrize("disk_s", [0.05, 0.3, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_slow_disk_parts_no_ends_that_are_told_together(first, disk_s, seed):
    async def story(world):
        await world.client.create("pods", pod("bare"))
        await asyncio.sleep(5)
        (before,) = world.client.list("pods", "default")
        nodes = list(world.fleet.nodes.values())
        world.engine.delay_s = disk_s
        for one in nodes:
            one.power_off()

        async def told(number, one):
            await asyncio.sleep(0.02 * number)
            await world._tell(one, "Off", "the host went down")

        await asyncio.gather(*(told(number, one) for number, one in enumerate(nodes[first:] + nodes[:first])))
        await asyncio.sleep(60)
        (after,) = world.client.list("pods", "default")
        assert (after.metadata.uid, after.spec.node_name) == (before.metadata.uid, before.spec.node_name)

    lived(story, seed=seed)


@pytest.mark.parametrize("first", [0, 1, 2])
@pytest.mark.parametrize("told_apart_s, boots_apart_s", [(0.0, 1), (3.0, 25)])
@pytest.mark.parametrize("timing", [ControllerSettings(), replace(ControllerSettings(), eviction_s=1), LAB])
def test_a_host_that_reboots_has_the_same_pods_on_the_same_machines(first, told_apart_s, boots_apart_s, timing):
    """The master ends with its machines and begins with them. On a slow host it is told of their ends one by one, and one boots long before another."""

    async def story(world):
        await web(world, 6)
        await world.client.create("pods", pod("bare"))
        await asyncio.sleep(5)
        before = {p.metadata.uid: p.spec.node_name for p in world.client.list("pods", "default")}
        assert all(before.values())
        nodes = list(world.fleet.nodes.values())
        order = nodes[first:] + nodes[:first]
        await world._stop_master()
        for one in nodes:
            one.power_off()
        await asyncio.sleep(60)
        world.runner = world._runner()
        await world._start_master()
        for one in order:
            await world._tell(one, "Off", "it was found off when the master started")
            await asyncio.sleep(told_apart_s)
        for one in nodes:  # as `labctl up` asks for all of them
            request = {"metadata": {"annotations": {"labctl.internal/boot-request": "up"}}}
            await world.client.patch("machines.labctl.internal", one.name, request)
            await says(world, one, {"phase": "Booting"})
        for one in order[::-1]:
            await asyncio.sleep(boots_apart_s)
            await world._tell(one, "On", "booted")
            await says(world, one, {"phase": "Joining", "observedBootRequest": "up"})
            await asyncio.sleep(boots_apart_s)
            one.power_on()
            await asyncio.sleep(0.5)
            await says(world, one, {"phase": "Ready", "bootID": one.boot_id})
        assert not await world.calm(60)
        assert {p.metadata.uid: p.spec.node_name for p in world.client.list("pods", "default")} == before

    async def says(world, one, status):
        await world.client.patch("machines.labctl.internal", one.name, {"status": status}, "status")

    lived(story, timing)


def test_pods_of_two_machines_that_end_together_move_to_the_third():
    async def story(world):
        await web(world, 6)
        first, second, third = world.fleet.nodes.values()
        for one in (first, second):
            one.power_off()
            await world._tell(one, "Off", "the plug was pulled")
        await asyncio.sleep(5)
        assert {p.spec.node_name for p in web_pods(world)} == {third.name}

    lived(story)
