"""DaemonSets in a whole world in virtual time."""

import asyncio
import json

from labctl.sim.objects import daemon_set
from tests.sim.test_deployments import Fence, image, lived

DAEMON_SETS, REVISIONS = "daemonsets.apps", "controllerrevisions.apps"


def of(world):
    return world.client.get(DAEMON_SETS, "default/log")


def alive(world):
    return sorted((p for p in world.client.list("pods") if p.active), key=lambda p: p.spec.node_name)


def nodes(world):
    return [p.spec.node_name for p in alive(world)]


def images(world):
    return {p.spec.containers[0].image for p in alive(world)}


async def until(world, told, within_s=60.0):
    began = world.clock.now()
    while not told():
        assert world.clock.now() - began < within_s, (of(world).status, nodes(world))
        await asyncio.sleep(0.01)


def all_good(world, count=3):
    status = of(world).status
    return (
        status.observed_generation == of(world).metadata.generation
        and status.number_available == status.desired_number_scheduled == status.updated_number_scheduled == count
        and not status.number_misscheduled
    )


async def made(world, count=3, **spec):
    await world.client.create(DAEMON_SETS, daemon_set("log", **spec))
    await until(world, lambda: all_good(world, count))


def test_one_pod_on_every_node():
    async def story(world):
        await made(world)
        assert nodes(world) == ["minion-1", "minion-2", "minion-3"]
        [revision] = world.client.list(REVISIONS)
        assert revision.revision == 1 and revision.metadata.controller.kind == "DaemonSet"
        as_go_writes_it = json.dumps(json.loads(bytes(revision.data)), sort_keys=True, separators=(",", ":"))
        assert bytes(revision.data).decode() == as_go_writes_it, "clients compare the bytes"
        assert all(p.metadata.labels["controller-revision-hash"] in revision.metadata.name for p in alive(world))

    lived(story)


def test_a_cordoned_node_keeps_and_gets_its_pod_and_a_tainted_one_none():
    async def story(world):
        await world.client.patch("nodes", "minion-1", {"spec": {"unschedulable": True}})
        await world.client.patch("nodes", "minion-2", {"spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}})
        await made(world, 2)
        assert nodes(world) == ["minion-1", "minion-3"]
        await world.client.patch("nodes", "minion-2", {"spec": {"taints": None}})
        await until(world, lambda: all_good(world, 3))

    lived(story)


def test_labels_choose_the_nodes_and_a_label_that_goes_takes_the_pod():
    async def story(world):
        await world.client.patch("nodes", "minion-2", {"metadata": {"labels": {"disk": "ssd"}}})
        spec = daemon_set("log")
        spec["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "ssd"}
        await world.client.create(DAEMON_SETS, spec)
        await until(world, lambda: nodes(world) == ["minion-2"] and all_good(world, 1))
        await world.client.patch("nodes", "minion-2", {"metadata": {"labels": {"disk": None}}})
        await until(world, lambda: nodes(world) == [])

    lived(story)


def test_a_deleted_pod_comes_back_on_its_node():
    async def story(world):
        await made(world)
        await world.client.delete("pods", alive(world)[1].metadata.key)
        await until(world, lambda: not all_good(world))
        await until(world, lambda: all_good(world))
        assert nodes(world) == ["minion-1", "minion-2", "minion-3"]

    lived(story)


def test_a_new_template_replaces_one_pod_after_the_other():
    async def story(world):
        await made(world)
        async with Fence(world) as fence:
            await world.client.patch(DAEMON_SETS, "default/log", image("busybox:2"))
            await until(world, lambda: all_good(world) and images(world) == {"busybox:2"})
        assert fence.least >= 2 and fence.most <= 3
        assert [r.revision for r in sorted(world.client.list(REVISIONS), key=lambda r: r.revision)] == [1, 2]

    lived(story)


def test_with_a_surge_no_node_is_without_a_ready_pod():
    async def story(world):
        await made(world, updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
        async with Fence(world) as fence:
            await world.client.patch(DAEMON_SETS, "default/log", image("busybox:2"))
            await until(world, lambda: all_good(world) and images(world) == {"busybox:2"} and len(alive(world)) == 3)
        assert fence.least >= 3 and fence.most <= 4

    lived(story)


def test_on_delete_replaces_only_what_somebody_deletes():
    async def story(world):
        await made(world, updateStrategy={"type": "OnDelete"})
        await world.client.patch(DAEMON_SETS, "default/log", image("busybox:2"))
        await asyncio.sleep(5)
        assert images(world) == {"busybox"}
        await world.client.delete("pods", alive(world)[0].metadata.key)
        await until(world, lambda: images(world) == {"busybox", "busybox:2"})

    lived(story)


def test_the_template_of_before_is_the_newest_revision_again():
    async def story(world):
        await made(world)
        for name in ("busybox:2", "busybox"):
            await world.client.patch(DAEMON_SETS, "default/log", image(name))
            await until(world, lambda name=name: all_good(world) and images(world) == {name})
        assert sorted(r.revision for r in world.client.list(REVISIONS)) == [2, 3]

    lived(story)


def test_a_node_that_loses_its_power_takes_its_pod_along_and_gets_another_when_it_is_back():
    async def story(world):
        await made(world)
        await world.power_off("minion-1")
        await until(world, lambda: nodes(world) == ["minion-2", "minion-3"])
        await world.power_on("minion-1")
        await until(world, lambda: all_good(world))

    lived(story)
