"""Faults of simulated labs: containers that are killed and stopped, a master that is killed, and readiness gates that somebody else has to open."""

import asyncio

from labctl.experiments.stage import Condition, FaultRequest, LoadRequest
from labctl.sim.clock import run
from labctl.sim.objects import deployment, pod, replication_controller, service
from labctl.sim.settings import HollowSettings
from labctl.sim.stage import SimStage
from labctl.sim.world import World

SETTINGS = HollowSettings(start_s=(0.1, 0.1), stop_s=(0.1, 0.1), told_s=(0.01, 0.05), container_statuses=True)
PROBE = {"httpGet": {"port": 80}, "periodSeconds": 2, "timeoutSeconds": 1, "failureThreshold": 3, "successThreshold": 1}


def with_container(obj, **fields):
    obj["spec"]["template"]["spec"]["containers"][0].update(fields)
    return obj


def lived(story, rc):
    async def live():
        world = World(1, SETTINGS)
        await world.start(2)
        await world.client.create("replicationcontrollers", rc)
        assert not await world.calm(20, 0.1)
        (victim,) = world.client.list("pods")
        await story(world, victim.metadata.key, world.fleet.nodes[victim.spec.node_name], victim.metadata.uid)
        assert not world.wrong and not await world.calm(60, 0.1)
        await world.stop()

    run(live())


def status(world, key):
    return world.client.get("pods", key).status.container_statuses[0]


def test_a_killed_container_is_started_again_where_it_is_at_once_and_later_after_a_pause():
    async def story(world, key, node, uid):
        node.containers.kill(uid, "main")
        await asyncio.sleep(0.05)
        assert not world.client.get("pods", key).ready and status(world, key).state.terminated.exit_code == 137
        await asyncio.sleep(0.2)
        assert world.client.get("pods", key).ready and status(world, key).restart_count == 1
        node.containers.kill(uid, "main")
        await asyncio.sleep(9)
        assert not world.client.get("pods", key).ready, "the second time it waits for 10 s"
        await asyncio.sleep(2)
        assert world.client.get("pods", key).ready and status(world, key).restart_count == 2
        told = [line.did for line in world.journal.about(f"pods/{key}") if line.did in ("ended", "started", "ready")]
        assert told == ["ready", *["ended", "started", "ready"] * 2]

    lived(story, replication_controller("web", 1))


def test_only_a_probe_over_http_notices_a_stopped_container():
    for probe, noticed in ((PROBE, True), ({**PROBE, "exec": {"command": ["true"]}}, False), (None, False)):
        if not noticed and probe:
            probe = {name: value for name, value in probe.items() if name != "httpGet"}

        async def story(world, key, node, uid, noticed=noticed):
            node.containers.stop(uid, "main")
            began, lost = world.clock.now(), 0.0
            while world.clock.now() < began + 12 and not lost:
                await asyncio.sleep(0.05)
                lost = world.clock.now() - began if not world.client.get("pods", key).ready else 0.0
            assert bool(lost) == noticed
            if noticed:
                assert 2 * 2 + 1 <= lost <= 3 * 2 + 1.1, "three probes, the first within a period, the last until its timeout"
            node.containers.go_on(uid, "main")
            await asyncio.sleep(2.5)
            assert world.client.get("pods", key).ready and status(world, key).restart_count == 0

        lived(story, with_container(replication_controller("web", 1), **({"readinessProbe": probe} if probe else {})))


def test_a_liveness_probe_has_a_stopped_container_killed_after_its_grace_period():
    async def story(world, key, node, uid):
        node.containers.stop(uid, "main")
        await asyncio.sleep(5)
        assert status(world, key).restart_count == 0
        await asyncio.sleep(8)
        assert status(world, key).restart_count == 1 and world.client.get("pods", key).ready

    rc = with_container(replication_controller("web", 1), livenessProbe=PROBE)
    rc["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 5
    lived(story, rc)


def test_a_pod_with_readiness_gates_is_ready_when_somebody_opened_them():
    async def live():
        world = World(1, SETTINGS)
        await world.start(1)
        gated = pod("gated")
        gated["spec"]["readinessGates"] = [{"conditionType": "example.com/open"}]
        del gated["status"]
        await world.client.create("pods", gated)
        await asyncio.sleep(2)
        there = world.client.get("pods", "default/gated")
        said = {each.type: each.status for each in there.status.conditions}
        assert (said["ContainersReady"], said["Ready"]) == ("True", "False")
        revision = there.metadata.revision
        await asyncio.sleep(5)
        assert world.client.get("pods", "default/gated").metadata.revision == revision, "it is not reported again and again"
        for opened in ("True", "False", "True"):
            raw = world.client.raw("pods", "default/gated")["status"]["conditions"]
            others = [each for each in raw if each["type"] != "example.com/open"]
            await world.client.patch(
                "pods", "default/gated", {"status": {"conditions": [*others, {"type": "example.com/open", "status": opened}]}}, "status"
            )
            await asyncio.sleep(1)
            now = {each.type: each.status for each in world.client.get("pods", "default/gated").status.conditions}
            assert now == {"PodScheduled": "True", "ContainersReady": "True", "Ready": opened, "example.com/open": opened}
        await world.stop()

    run(live())


def test_without_a_master_nothing_is_decided_and_the_next_one_goes_on():
    async def story(world, key, node, uid):
        await world.kill_master()
        revision = world.store.revision
        told = asyncio.create_task(world.power_off(node.name))
        await asyncio.sleep(30)
        assert world.store.revision == revision, "no lease, no report, no provider's word"
        await world.start_master()
        await asyncio.sleep(2)
        assert told.done() and world.client.get("pods", key) is None, "the new master heard of the end and moved the pod"
        await world.power_on(node.name)

    lived(story, replication_controller("web", 1))


def stage():
    made = SimStage(2, "kubernetes")
    made.deploy([with_container(deployment("web", 2), readinessProbe=PROBE), service("web", {"name": "web"})])
    while made.unmet(Condition(service="default/web", endpoints=2)):
        made.wait(made.now() + 0.5)
    return made


def first_pod(made):
    return f"pod/default/{made.pods('deployment/default/web')[0].name}"


def test_a_fault_whose_time_ends_without_a_master_is_healed_by_the_next():
    made = stage()
    victim = first_pod(made)
    made.inject(FaultRequest(name="stop", type="stop-container", target=victim, duration="1s"))
    made.inject(FaultRequest(name="kill", type="kill-process", target="master", parameters={"process": "master"}))
    load = made.load(LoadRequest(target="service default/web", rate=50.0, timeout_s=0.5))
    made.wait(made.now() + 5)
    outcomes = [each.outcome for each in load.stop().requests[-100:]]
    assert outcomes.count("timeout") > 20, "the container is stopped still, and its endpoint stands in the rules"
    assert not made.unmet(Condition(workload="deployment/default/web", ready=2)), "asking started a master, which healed what was overdue"
    load = made.load(LoadRequest(target="service default/web", rate=50.0, timeout_s=0.5))
    made.wait(made.now() + 2)
    assert {each.outcome for each in load.stop().requests} == {"ok"}
    told = made.timelines(["kill"], None)[0]
    assert ("known", "restart") in [(mark.what, mark.by) for mark in told.marks]
    made.close()


def test_what_can_not_be_hit_is_refused():
    made = stage()
    victim = first_pod(made)
    asked = [
        ("kill-container", "minion-1", {}, "minion-1 is no pod"),
        ("kill-container", "pod/default/nobody", {}, "there is no pod nobody"),
        ("stop-container", f"{victim}/side", {}, "has no container side: it has main"),
        ("kill-process", "minion-1", {"process": "agent"}, "no process agent of minion-1"),
        ("kill-process", "master", {"process": "ssh"}, "no process ssh of master"),
    ]
    for type_, target, parameters, why in asked:
        (said,) = made.refuse([FaultRequest(name="x", type=type_, target=target, parameters=parameters)])
        assert why in said
    assert not made.refuse([FaultRequest(name="x", type="kill-container", target=f"{victim}/main")])
    made.inject(FaultRequest(name="x", type="kill-container", target=victim))
    (said,) = made.refuse([FaultRequest(name="y", type="stop-container", target=victim)])
    assert "does not run" in said
    made.close()
