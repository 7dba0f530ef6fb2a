"""Scheduling in whole worlds in virtual time: the real API, controllers, scheduler and hollow nodes, with machines that die and pods that preempt."""

import asyncio
from random import Random

import pytest

from labctl.errors import ApiError
from labctl.resources.quantities import to_bytes, to_millicores
from labctl.sim.clock import run
from labctl.sim.objects import deployment, pod
from labctl.sim.settings import HollowSettings
from labctl.sim.world import World

QUICK = HollowSettings(told_s=(0.01, 0.05), start_s=(0.02, 0.2))
HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
DEPLOYMENTS = "deployments.apps"


def lived(story, nodes=3, seed=1):
    async def live():
        world = World(seed, QUICK)
        await world.start(nodes)
        for value in (1, 2, 3, 10, 100):
            await world.client.create("priorityclasses.scheduling.k8s.io", {"metadata": {"name": f"p{value}"}, "value": value})
            waits = {"metadata": {"name": f"waits-{value}"}, "value": value, "preemptionPolicy": "Never"}
            await world.client.create("priorityclasses.scheduling.k8s.io", waits)
        assert not await world.calm(10)
        await story(world)
        assert not world.wrong
        await world.stop()

    run(live())


async def until(world, told, what, within_s=60.0):
    began = world.clock.now()
    while not told():
        assert world.clock.now() - began < within_s, what
        await asyncio.sleep(0.02)


def placed(world, name="web"):
    """Where the active pods of a Deployment run that are ready."""
    pods = [p for p in world.client.list("pods") if p.active and p.metadata.labels.get("name") == name]
    return sorted(p.spec.node_name for p in pods if p.ready)


def shy(name, replicas, **more):
    made = deployment(name, replicas, **more)
    term = {"topologyKey": HOST, "labelSelector": {"matchLabels": {"name": name}}, "matchLabelKeys": ["pod-template-hash"]}
    made["spec"]["template"]["spec"]["affinity"] = {"podAntiAffinity": {REQUIRED: [term]}}
    return made


def test_a_pod_waits_for_an_extended_resource_and_its_end_makes_room():
    async def story(world):
        asks = {"resources": {"requests": {"example.com/dongle": "3"}, "limits": {"example.com/dongle": "3"}}}
        for name in ("first", "second"):
            made = pod(name)
            made["spec"]["containers"][0] |= asks
            await world.client.create("pods", made)
        await world.client.patch("nodes", "minion-2", {"status": {"capacity": {"example.com/dongle": "5"}}}, "status")
        await until(
            world, lambda: [each.spec.node_name for each in world.client.list("pods") if each.ready] == ["minion-2"], "one has room"
        )
        (runs,) = [each.metadata.name for each in world.client.list("pods") if each.ready]
        await world.client.delete("pods", f"default/{runs}")
        await until(
            world, lambda: [each.metadata.name != runs for each in world.client.list("pods") if each.ready] == [True], "so has the other"
        )

    lived(story)


def test_a_node_dies_and_the_replica_waits_for_another_one():
    async def story(world):
        await world.client.create(DEPLOYMENTS, shy("web", 3))
        await until(world, lambda: placed(world) == ["minion-1", "minion-2", "minion-3"], "one on each")
        [one, *_] = world.client.list("pods", "default")
        selector = world.client.raw("pods", one.metadata.key)["spec"]["affinity"]["podAntiAffinity"][REQUIRED][0]["labelSelector"]
        assert selector["matchExpressions"] == [
            {"key": "pod-template-hash", "operator": "In", "values": [one.metadata.labels["pod-template-hash"]]}
        ]
        await world.power_off("minion-2")
        waiting = "1 node(s) had untolerated taint(s), 2 node(s) didn't match pod anti-affinity rules."
        await until(
            world, lambda: any(waiting in world.runner.why("pods", p.metadata.key) for p in world.client.list("pods")), "it says why"
        )
        assert placed(world) == ["minion-1", "minion-3"]
        await world.power_on("minion-2")
        await until(world, lambda: placed(world) == ["minion-1", "minion-2", "minion-3"], "one on each again")

    lived(story)


def test_a_rolling_update_goes_on_beside_the_old_replicas():
    """matchLabelKeys: the new ReplicaSet's pods are kept apart from each other, not from the old ones."""

    async def story(world):
        await world.client.create(DEPLOYMENTS, shy("web", 3))
        await until(world, lambda: len(placed(world)) == 3, "all are ready")
        template = {"spec": {"template": {"metadata": {"annotations": {"round": "2"}}}}}
        await world.client.patch(DEPLOYMENTS, "default/web", template)

        def done():
            found = world.client.get(DEPLOYMENTS, "default/web")
            return found.status.updated_replicas == found.status.available_replicas == found.status.replicas == 3

        await until(world, done, "rolled out")
        assert placed(world) == ["minion-1", "minion-2", "minion-3"]

    lived(story)


def test_spread_holds_after_a_drain():
    async def story(world):
        made = deployment("web", 6)
        constraint = {"maxSkew": 1, "topologyKey": HOST, "whenUnsatisfiable": "DoNotSchedule", "nodeTaintsPolicy": "Honor"}
        made["spec"]["template"]["spec"]["topologySpreadConstraints"] = [{**constraint, "labelSelector": {"matchLabels": {"name": "web"}}}]
        await world.client.create(DEPLOYMENTS, made)
        await until(world, lambda: [placed(world).count(f"minion-{n}") for n in (1, 2, 3)] == [2, 2, 2], "two on each")
        await world.client.patch("nodes", "minion-3", {"spec": {"unschedulable": True}})
        for one in world.client.list("pods", "default"):
            if one.spec.node_name == "minion-3":
                await world.client.delete("pods", one.metadata.key)
        await until(world, lambda: [placed(world).count(f"minion-{n}") for n in (1, 2, 3)] == [3, 3, 0], "three on each that is left")
        await world.client.patch("nodes", "minion-3", {"spec": {"unschedulable": None}})
        await world.client.patch(DEPLOYMENTS, "default/web", {"spec": {"replicas": 7}})
        await until(world, lambda: placed(world).count("minion-3") == 1, "the next one goes where nobody is")

    lived(story)


def overfull(world):
    """Nodes whose pods, leaving ones too, ask for more than the node has."""
    found = []
    for node in world.client.list("nodes"):
        there = [p for p in world.client.list("pods") if p.spec.node_name == node.metadata.name and not p.finished]
        asked = [c.resources.requests for p in there for c in p.spec.containers]
        cpu, memory = sum(to_millicores(r.get("cpu", 0)) for r in asked), sum(to_bytes(r.get("memory", 0)) for r in asked)
        offered = node.status.allocatable
        if cpu > to_millicores(offered["cpu"]) or memory > to_bytes(offered["memory"]):
            found.append(f"{node.metadata.name}: {cpu}m and {memory} bytes of {offered}")
    return found


@pytest.mark.parametrize("seed", range(8))
def test_pods_preempt_each_other_and_no_node_is_ever_overfull(seed):
    async def story(world):
        rng, wrong = Random(seed), []

        async def look():
            while True:
                wrong.extend(overfull(world))
                await asyncio.sleep(0.01)

        looking = asyncio.create_task(look())
        for number in range(40):
            made = pod(f"p{number}", cpu=rng.choice(["500m", "1", "2"]), labels={"name": f"p{number % 5}"})
            made["spec"] |= {
                "priorityClassName": rng.choice(["", "", "p10", "p100"]),
                "terminationGracePeriodSeconds": rng.choice([1, 2, 5]),
            }
            await world.client.create("pods", made)
            if rng.random() < 0.2:
                there = [p for p in world.client.list("pods") if p.active]
                try:
                    await world.client.delete("pods", rng.choice(there).metadata.key)
                except ApiError:  # it was gone a moment before
                    pass
            await asyncio.sleep(rng.choice([0.0, 0.05, 1.0]))
        await asyncio.sleep(60)
        looking.cancel()
        assert not wrong
        pods = [p for p in world.client.list("pods") if p.active]
        waiting = [p for p in pods if not p.spec.node_name]
        preempted = [e for e in world.client.list("events") if e.reason == "Preempted"]
        assert preempted and waiting, "the scenario must be a narrow one"
        for lost in waiting:
            cheaper = [p for p in pods if p.spec.node_name and (p.spec.priority or 0) < lost.spec.priority]
            asked = to_millicores(lost.spec.containers[0].resources.requests["cpu"])
            for node in world.client.list("nodes"):
                room = to_millicores(node.status.allocatable["cpu"])
                kept = [p for p in pods if p.spec.node_name == node.metadata.name and p not in cheaper]
                used = sum(to_millicores(p.spec.containers[0].resources.requests["cpu"]) for p in kept)
                assert used + asked > room, f"{lost.metadata.name} could be on {node.metadata.name}"

    lived(story, seed=seed)


def test_the_events_and_conditions_of_a_preemption():
    async def story(world):
        room = to_millicores(world.client.get("nodes", "minion-1").status.allocatable["cpu"])
        for number in (1, 2, 3):
            await world.client.create("pods", pod(f"low-{number}", cpu=f"{room}m"))
        await until(world, lambda: sum(p.ready for p in world.client.list("pods")) == 3, "they run")
        made = pod("high", cpu=f"{room}m")
        made["spec"]["priorityClassName"] = "p100"
        await world.client.create("pods", made)
        await until(world, lambda: world.client.get("pods", "default/high").ready, "it gets a node", 40)
        high = world.client.get("pods", "default/high")
        assert not high.status.nominated_node_name or high.status.nominated_node_name == high.spec.node_name
        told = [(e.type, e.reason, e.message) for e in world.client.list("events") if e.reason == "Preempted"]
        assert told == [("Normal", "Preempted", f"Preempted by pod {high.metadata.uid} on node {high.spec.node_name}")]
        assert len([p for p in world.client.list("pods", "default") if p.active]) == 3

    lived(story)


def test_the_most_important_pod_is_placed_first():
    async def story(world):
        for node in world.client.list("nodes"):
            await world.client.patch("nodes", node.metadata.name, {"spec": {"unschedulable": True}})
        room = to_millicores(world.client.get("nodes", "minion-1").status.allocatable["cpu"])
        for priority in (1, 3, 2):
            made = pod(f"p{priority}", cpu=f"{room}m")
            made["spec"]["priorityClassName"] = f"waits-{priority}"
            await world.client.create("pods", made)
        await asyncio.sleep(30)
        await world.client.patch("nodes", "minion-1", {"spec": {"unschedulable": None}})
        await asyncio.sleep(15)
        assert [p.metadata.name for p in world.client.list("pods", "default") if p.spec.node_name] == ["p3"]

    lived(story)


def test_a_gated_pod_waits_for_its_gates():
    async def story(world):
        made = pod("gated")
        made["spec"]["schedulingGates"] = [{"name": "example.com/a"}, {"name": "example.com/b"}]
        await world.client.create("pods", made)
        await asyncio.sleep(5)
        [told] = world.client.get("pods", "default/gated").status.conditions
        assert (told.status, told.reason) == ("False", "SchedulingGated")
        narrowed = {"schedulingGates": [{"name": "example.com/b"}], "nodeSelector": {HOST: "minion-2"}}
        await world.client.patch("pods", "default/gated", {"spec": narrowed})
        await asyncio.sleep(5)
        assert not world.client.get("pods", "default/gated").spec.node_name
        await world.client.patch("pods", "default/gated", {"spec": {"schedulingGates": None}})
        await until(world, lambda: world.client.get("pods", "default/gated").ready, "it runs", 10)
        assert world.client.get("pods", "default/gated").spec.node_name == "minion-2"

    lived(story)
