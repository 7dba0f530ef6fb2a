"""StatefulSets in a whole world in virtual time."""

import asyncio

from labctl.sim.objects import stateful_set
from tests.sim.test_deployments import Fence, image, lived

SETS, CLAIMS = "statefulsets.apps", "persistentvolumeclaims"


def of(world):
    return world.client.get(SETS, "default/db")


def alive(world):
    return sorted((p for p in world.client.list("pods") if p.active), key=lambda p: p.metadata.name)


def names(world):
    return [p.metadata.name for p in alive(world)]


def images(world):
    return [p.spec.containers[0].image for p in alive(world)]


def all_good(world, count):
    status = of(world).status
    return (
        status.observed_generation == of(world).metadata.generation
        and status.replicas == status.ready_replicas == status.available_replicas == len(names(world)) == count
    )


async def until(world, told, within_s=120.0):
    began = world.clock.now()
    while not told():
        assert world.clock.now() - began < within_s, (of(world).status, names(world))
        await asyncio.sleep(0.01)


async def made(world, replicas=3, **spec):
    await world.client.create(SETS, stateful_set("db", replicas, **spec))
    await until(world, lambda: all_good(world, replicas))


class Order:
    """In which order pods came and went."""

    def __init__(self, world):
        self.world, self.came, self.went, self.together = world, [], [], 0

    async def __aenter__(self):
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()

    async def _look(self):
        seen: set[str] = set(names(self.world))
        while True:
            now = {p.metadata.name: p for p in alive(self.world)}
            self.came += sorted(now.keys() - seen)
            self.went += sorted(seen - now.keys())
            self.together = max(self.together, sum(not p.ready for p in now.values()))
            seen = set(now)
            await asyncio.sleep(0.005)


def test_pods_come_in_order_each_after_the_one_before_is_ready():
    async def story(world):
        async with Order(world) as order:
            await made(world)
        assert order.came == ["db-0", "db-1", "db-2"] and order.together == 1
        pod = alive(world)[1]
        assert (pod.spec.hostname, pod.spec.subdomain) == ("db-1", "db")
        assert pod.metadata.labels["statefulset.kubernetes.io/pod-name"] == "db-1"
        assert pod.metadata.labels["apps.kubernetes.io/pod-index"] == "1"
        assert of(world).status.current_revision == of(world).status.update_revision == pod.metadata.labels["controller-revision-hash"]

    lived(story)


def test_parallel_sets_wait_for_nobody():
    async def story(world):
        async with Order(world) as order:
            await made(world, 5, podManagementPolicy="Parallel")
        assert order.together > 1 and len(order.came) == 5

    lived(story)


def test_scaling_down_takes_the_highest_first_one_by_one():
    async def story(world):
        await made(world, 4)
        async with Order(world) as order:
            await world.client.patch(SETS, "default/db", {"spec": {"replicas": 1}})
            await until(world, lambda: all_good(world, 1))
        assert order.went == ["db-3", "db-2", "db-1"]

    lived(story)


def test_ordinals_may_begin_anywhere():
    async def story(world):
        await made(world, 2, ordinals={"start": 5})
        assert names(world) == ["db-5", "db-6"]

    lived(story)


def test_a_new_template_goes_from_the_highest_down_one_at_a_time():
    async def story(world):
        await made(world)
        async with Fence(world) as fence, Order(world) as order:
            await world.client.patch(SETS, "default/db", image("busybox:2"))
            await until(world, lambda: all_good(world, 3) and images(world) == ["busybox:2"] * 3)
        assert fence.least >= 2 and fence.most <= 3
        assert order.went == ["db-2", "db-1", "db-0"]
        await until(world, lambda: of(world).status.current_revision == of(world).status.update_revision)

    lived(story)


def test_a_partition_holds_the_lower_numbers_and_they_come_back_as_they_were():
    async def story(world):
        await made(world, updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 2}})
        await world.client.patch(SETS, "default/db", image("busybox:2"))
        await until(world, lambda: all_good(world, 3) and images(world) == ["busybox", "busybox", "busybox:2"])
        await world.client.delete("pods", "default/db-0")
        await until(world, lambda: names(world) == ["db-1", "db-2"])
        await until(world, lambda: all_good(world, 3))
        assert images(world) == ["busybox", "busybox", "busybox:2"]
        assert of(world).status.current_revision != of(world).status.update_revision

    lived(story)


def test_on_delete_changes_only_what_is_deleted():
    async def story(world):
        await made(world, updateStrategy={"type": "OnDelete"})
        await world.client.patch(SETS, "default/db", image("busybox:2"))
        await asyncio.sleep(5)
        assert images(world) == ["busybox"] * 3
        await world.client.delete("pods", "default/db-1")
        await until(world, lambda: images(world) == ["busybox", "busybox:2", "busybox"])
        assert of(world).status.current_revision != of(world).status.update_revision
        await world.client.delete("pods", "default/db-0")
        await world.client.delete("pods", "default/db-2")
        await until(world, lambda: images(world) == ["busybox:2"] * 3 and all_good(world, 3))
        await until(world, lambda: of(world).status.current_revision == of(world).status.update_revision)
        assert of(world).status.current_replicas == 3

    lived(story)


def test_claims_are_made_first_are_kept_and_are_found_again():
    async def story(world):
        claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
        await made(world, 2, volumeClaimTemplates=[claim])
        assert sorted(c.metadata.name for c in world.client.list(CLAIMS)) == ["data-db-0", "data-db-1"]
        volumes = world.client.raw("pods", "default/db-1")["spec"]["volumes"]
        assert {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-1"}} in volumes
        await world.client.patch(SETS, "default/db", {"spec": {"replicas": 1}})
        await until(world, lambda: all_good(world, 1))
        assert len(world.client.list(CLAIMS)) == 2

    lived(story)


def test_claims_go_with_what_is_scaled_away_where_that_is_the_policy():
    async def story(world):
        claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
        policy = {"whenScaled": "Delete", "whenDeleted": "Delete"}
        await made(world, 2, volumeClaimTemplates=[claim], persistentVolumeClaimRetentionPolicy=policy)
        await world.client.patch(SETS, "default/db", {"spec": {"replicas": 1}})
        await until(world, lambda: [c.metadata.name for c in world.client.list(CLAIMS)] == ["data-db-0"])
        await world.client.delete(SETS, "default/db", propagation="Background")
        began = world.clock.now()
        while world.client.list(CLAIMS) or world.client.list("pods"):
            assert world.clock.now() - began < 60
            await asyncio.sleep(0.1)

    lived(story)


def owners(world, name):
    return [(each.kind, each.controller) for each in world.client.get(CLAIMS, f"default/{name}").metadata.owner_references]


def test_a_retention_policy_that_is_changed_holds_for_the_claims_that_are_there():
    """They would be kept, or lost, by the policy of the day on which they were made."""

    async def story(world):
        claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}

        async def policy(**given):
            await world.client.patch(SETS, "default/db", {"spec": {"persistentVolumeClaimRetentionPolicy": given}})

        def owned_by(*wanted):
            return lambda: [owners(world, f"data-db-{number}") for number in (0, 1)] == list(wanted)

        await made(world, 2, volumeClaimTemplates=[claim])
        assert owned_by([], [])()
        mine, foreign = ("StatefulSet", True), {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "u9"}
        await world.client.create("configmaps", {"metadata": {"name": "other", "namespace": "default"}})
        foreign["uid"] = world.client.get("configmaps", "default/other").metadata.uid
        await world.client.patch(CLAIMS, "default/data-db-1", {"metadata": {"ownerReferences": [foreign]}})
        await policy(whenDeleted="Delete")
        await until(world, owned_by([mine], [("ConfigMap", None), mine]))
        await policy(whenDeleted="Retain", whenScaled="Delete")
        await until(world, owned_by([], [("ConfigMap", None)]))
        await policy(whenDeleted="Delete")
        await until(world, owned_by([mine], [("ConfigMap", None), mine]))
        await policy(whenDeleted="Retain", whenScaled="Retain")
        await until(world, owned_by([], [("ConfigMap", None)]))
        await world.client.delete(SETS, "default/db", propagation="Background")
        await until(world, lambda: not world.client.list("pods"))
        assert len(world.client.list(CLAIMS)) == 2

    lived(story)


def test_a_claim_that_somebody_else_controls_gets_no_owner():
    async def story(world):
        claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
        await made(world, 2, volumeClaimTemplates=[claim])
        await world.client.create("configmaps", {"metadata": {"name": "other", "namespace": "default"}})
        uid = world.client.get("configmaps", "default/other").metadata.uid
        other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": uid, "controller": True}
        await world.client.patch(CLAIMS, "default/data-db-0", {"metadata": {"ownerReferences": [other]}})
        policy = {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}
        await world.client.patch(SETS, "default/db", {"spec": policy})
        await until(world, lambda: owners(world, "data-db-1") == [("StatefulSet", True)])
        assert owners(world, "data-db-0") == [("ConfigMap", True)]

    lived(story)


def test_a_dead_nodes_pod_comes_back_under_its_name_elsewhere():
    async def story(world):
        await made(world)
        dead = alive(world)[1].spec.node_name
        await world.power_off(dead)
        await until(world, lambda: all_good(world, 3) and all(p.spec.node_name != dead for p in alive(world)))
        assert names(world) == ["db-0", "db-1", "db-2"]

    lived(story)


def test_a_silent_nodes_pod_is_not_made_twice():
    async def story(world):
        await made(world)
        world.fleet.nodes[alive(world)[1].spec.node_name].fall_silent()
        await asyncio.sleep(600)
        assert len([p for p in world.client.list("pods") if p.metadata.name == "db-1"]) == 1
        assert not world.wrong, "two of one name would be the end of a database"

    lived(story)
