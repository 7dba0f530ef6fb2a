"""Deployments in a whole world in virtual time: the real API, controllers, scheduler and hollow nodes."""

import asyncio

import pytest

from labctl.sim.clock import run
from labctl.sim.objects import deployment
from labctl.sim.settings import HollowSettings
from labctl.sim.world import World

QUICK = HollowSettings(told_s=(0.01, 0.05), start_s=(0.02, 0.2))
DEPLOYMENTS, SETS = "deployments.apps", "replicasets.apps"
REVISION = "deployment.kubernetes.io/revision"


class Fence:
    """Looks at all pods every 5 ms: how many there were at most, how many were ready at least."""

    def __init__(self, world):
        self.world, self.most, self.least = world, 0, 10**6

    async def __aenter__(self):
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()

    async def _look(self):
        while True:
            active = [p for p in self.world.client.list("pods") if p.active]
            self.most = max(self.most, len(active))
            self.least = min(self.least, sum(p.ready for p in active))
            await asyncio.sleep(0.005)


def lived(story, nodes=3):
    async def live():
        world = World(1, QUICK)
        await world.start(nodes)
        assert not await world.calm(10)
        await story(world)
        assert not world.wrong
        await world.stop()

    run(live())


def of(world, name="web"):
    return world.client.get(DEPLOYMENTS, f"default/{name}")


def sets(world):
    return sorted(world.client.list(SETS), key=lambda each: int(each.metadata.annotations[REVISION]))


async def until(world, told, what="", within_s=60.0):
    began = world.clock.now()
    while not told():
        assert world.clock.now() - began < within_s, what or world.client.raw(DEPLOYMENTS, "default/web")
        await asyncio.sleep(0.01)


def rolled_out(world, name="web"):
    """What `kubectl rollout status` waits for."""
    seen = of(world, name)
    wanted, status = seen.spec.replicas, seen.status
    return status.observed_generation >= seen.metadata.generation and (
        status.updated_replicas == status.replicas == status.available_replicas == wanted
    )


async def rolled(world):
    await until(world, lambda: rolled_out(world))


def image(name):
    return {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": name}]}}}}


async def made(world, replicas=4, **spec):
    await world.client.create(DEPLOYMENTS, deployment("web", replicas, **spec))
    await rolled(world)


def reason(world, type_):
    return next((c.reason for c in of(world).status.conditions if c.type == type_), "")


def test_a_new_deployment_makes_one_set_of_all_its_pods():
    async def story(world):
        await made(world)
        [only] = sets(world)
        assert only.spec.replicas == only.status.ready_replicas == 4
        assert only.metadata.name.startswith("web-") and only.metadata.labels["pod-template-hash"] in only.metadata.name
        assert only.metadata.controller.kind == "Deployment"
        pods = world.client.list("pods")
        assert {p.metadata.labels["pod-template-hash"] for p in pods} == {only.metadata.labels["pod-template-hash"]}
        await until(world, lambda: reason(world, "Progressing") == "NewReplicaSetAvailable")
        assert reason(world, "Available") == "MinimumReplicasAvailable"
        assert of(world).metadata.annotations[REVISION] == "1"

    lived(story)


def test_a_new_template_is_rolled_out_within_its_fence():
    async def story(world):
        await made(world, 8)
        async with Fence(world) as fence:
            await world.client.patch(DEPLOYMENTS, "default/web", image("busybox:2"))
            await rolled(world)
        assert fence.most <= 10 and fence.least >= 6
        old, new = sets(world)
        assert (old.spec.replicas, new.spec.replicas) == (0, 8)
        assert {c.image for p in world.client.list("pods") if p.active for c in p.spec.containers} == {"busybox:2"}

    lived(story)


def test_undo_finds_the_old_set_again_and_gives_it_the_newest_revision():
    async def story(world):
        await made(world)
        await world.client.patch(DEPLOYMENTS, "default/web", image("busybox:2"))
        await rolled(world)
        await world.client.patch(DEPLOYMENTS, "default/web", image("busybox"))
        await rolled(world)
        await until(world, lambda: len(sets(world)) == 2 and sets(world)[-1].spec.replicas == 4)
        newest = sets(world)[-1]
        assert newest.metadata.annotations[REVISION] == "3"
        assert newest.metadata.annotations["deployment.kubernetes.io/revision-history"] == "1"
        assert of(world).metadata.annotations[REVISION] == "3"

    lived(story)


def test_recreate_ends_all_old_pods_before_it_makes_new_ones():
    async def story(world):
        await made(world, strategy={"type": "Recreate"})
        await world.client.patch(DEPLOYMENTS, "default/web", image("busybox:2"))
        while not rolled_out(world):
            images = {p.spec.containers[0].image for p in world.client.list("pods") if not p.finished}
            assert len(images) <= 1
            await asyncio.sleep(0.005)

    lived(story)


def test_a_paused_deployment_rolls_nothing_but_scales():
    async def story(world):
        await made(world)
        await world.client.patch(DEPLOYMENTS, "default/web", {"spec": {"paused": True}} | {})
        await world.client.patch(DEPLOYMENTS, "default/web", image("busybox:2"))
        await until(world, lambda: reason(world, "Progressing") == "DeploymentPaused")
        await world.client.patch(DEPLOYMENTS, "default/web", {"spec": {"replicas": 6}})
        await until(world, lambda: [each.status.ready_replicas for each in sets(world)] == [6])
        await world.client.patch(DEPLOYMENTS, "default/web", {"spec": {"paused": False}})
        await rolled(world)
        assert [each.spec.replicas for each in sets(world)] == [0, 6]

    lived(story)


def test_scaling_while_a_rollout_is_stuck_is_in_proportion_and_a_better_template_passes_it():
    async def story(world):
        await made(world, 10, strategy={"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}})
        stuck = image("busybox:2")
        stuck["spec"]["template"]["spec"]["nodeSelector"] = {"no": "such"}
        await world.client.patch(DEPLOYMENTS, "default/web", stuck)
        await until(world, lambda: [each.spec.replicas for each in sets(world)] == [8, 5])
        await world.client.patch(DEPLOYMENTS, "default/web", {"spec": {"replicas": 15}})
        await until(world, lambda: [each.spec.replicas for each in sets(world)] == [11, 7])
        mended = image("busybox:3")
        mended["spec"]["template"]["spec"]["nodeSelector"] = None
        await world.client.patch(DEPLOYMENTS, "default/web", mended)
        await rolled(world)
        assert [each.spec.replicas for each in sets(world)] == [0, 0, 15]

    lived(story)


def test_a_rollout_that_does_not_move_is_late_after_its_deadline_and_not_before():
    async def story(world):
        await made(world, 2, progressDeadlineSeconds=30)
        stuck = image("busybox:2")
        stuck["spec"]["template"]["spec"]["nodeSelector"] = {"no": "such"}
        await world.client.patch(DEPLOYMENTS, "default/web", stuck)
        await asyncio.sleep(25)
        assert reason(world, "Progressing") in ("ReplicaSetUpdated", "NewReplicaSetCreated")
        await asyncio.sleep(10)
        assert reason(world, "Progressing") == "ProgressDeadlineExceeded"
        assert [c.status for c in of(world).status.conditions if c.type == "Progressing"] == ["False"]

    lived(story)


@pytest.mark.parametrize("limit", [0, 2])
def test_history_is_kept_to_its_limit(limit):
    async def story(world):
        await made(world, 2, revisionHistoryLimit=limit)
        for number in range(2, 6):
            await world.client.patch(DEPLOYMENTS, "default/web", image(f"busybox:{number}"))
            await rolled(world)
        await until(world, lambda: len(sets(world)) == limit + 1)
        assert sets(world)[-1].metadata.annotations[REVISION] == "5"

    lived(story)


def test_a_name_that_another_template_has_is_passed_by():
    async def story(world):
        await made(world, 2)
        [only] = sets(world)
        taken = world.client.raw(SETS, only.metadata.key)
        await world.client.delete(DEPLOYMENTS, "default/web", propagation="Background")
        await until(world, lambda: not world.client.list(SETS))
        del taken["metadata"]["resourceVersion"], taken["metadata"]["uid"], taken["metadata"]["ownerReferences"]
        taken["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
        taken["spec"]["template"]["metadata"]["labels"] = taken["spec"]["selector"]["matchLabels"] = {"name": "other"}
        taken["metadata"]["labels"] = {"name": "other"}
        await world.client.create(SETS, taken)
        await world.client.create(DEPLOYMENTS, deployment("web", 2))
        await rolled(world)
        assert of(world).status.collision_count == 1
        assert len(world.client.list(SETS)) == 2

    lived(story)


def test_a_node_that_dies_in_the_middle_of_a_rollout():
    async def story(world):
        await made(world, 6)
        await world.client.patch(DEPLOYMENTS, "default/web", image("busybox:2"))
        await asyncio.sleep(0.1)
        await world.power_off("minion-1")
        await rolled(world)
        assert all(p.spec.node_name != "minion-1" for p in world.client.list("pods") if p.active)

    lived(story)


def test_a_master_that_restarts_in_the_middle_of_a_rollout():
    async def story(world):
        await made(world, 6)
        await world.client.patch(DEPLOYMENTS, "default/web", image("busybox:2"))
        await asyncio.sleep(0.1)
        async with Fence(world) as fence:
            await world.restart_master()
            await rolled(world)
        assert fence.most <= 8 and fence.least >= 5

    lived(story)
