"""Claims and volumes in a whole world in virtual time: binder, scheduler, provisioner and the agents that remove data."""

import asyncio

import pytest

from labctl.errors import ApiError
from labctl.sim.objects import pod, stateful_set
from tests.sim.test_deployments import lived
from tests.sim.test_statefulsets import alive, all_good, until

SETS, CLAIMS, VOLUMES, CLASSES = "statefulsets.apps", "persistentvolumeclaims", "persistentvolumes", "storageclasses.storage.k8s.io"
NO_HELP = " preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."


def claim(name, size="1Gi", modes=("ReadWriteOnce",), **spec):
    spec = {"accessModes": list(modes), "resources": {"requests": {"storage": size}}, **spec}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def using(name, *claims):
    obj = pod(name)
    obj["spec"]["volumes"] = [{"name": each, "persistentVolumeClaim": {"claimName": each}} for each in claims]
    return obj


def on(node, name, size="1Gi", class_="", policy="Retain", **spec):
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]
    where = {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}, "local": {"path": "/mnt/disk"}}
    spec = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "storageClassName": class_, **where, **spec}
    return {"metadata": {"name": name}, "spec": {"persistentVolumeReclaimPolicy": policy, **spec}}


def storage_class(name, provisioner="labctl.internal/local", mode="Immediate", **more):
    return {"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode, **more}


async def comes_true(world, told, within_s=20.0):
    end = world.clock.now() + within_s
    while not told():
        assert world.clock.now() < end, [world.client.list(kind) for kind in (CLAIMS, VOLUMES, "pods")]
        await asyncio.sleep(0.01)


def get(world, kind, key):
    return world.client.get(kind, key)


def phases(world):
    return {each.metadata.name: each.status.phase for kind in (CLAIMS, VOLUMES) for each in world.client.list(kind)}


def events(world, reason):
    return [each.message for each in world.client.list("events") if each.reason == reason]


def test_a_claim_waits_for_its_first_pod_and_gets_a_volume_on_that_pods_node():
    async def story(world):
        await world.client.create(CLAIMS, claim("data"))
        await asyncio.sleep(5)
        assert phases(world) == {"data": "Pending"}
        assert get(world, CLAIMS, "default/data").spec.storage_class_name == "standard"
        assert events(world, "WaitForFirstConsumer") == ["waiting for first consumer to be created before binding"]
        began = world.clock.now()
        await world.client.create("pods", using("p", "data"))
        await comes_true(world, lambda: get(world, "pods", "default/p").spec.node_name)
        assert world.clock.now() - began < 0.1, "neither a back-off nor a poll stands between the claim and the pod"
        bound, node = get(world, CLAIMS, "default/data"), get(world, "pods", "default/p").spec.node_name
        volume = get(world, VOLUMES, bound.spec.volume_name)
        assert (volume.node_name, volume.spec.persistent_volume_reclaim_policy) == (node, "Delete")
        await comes_true(world, lambda: set(phases(world).values()) == {"Bound"})
        assert get(world, CLAIMS, "default/data").status.capacity == {"storage": "1Gi"}
        await comes_true(world, lambda: events(world, "ProvisioningSucceeded"))
        assert events(world, "ProvisioningSucceeded") == [f"Successfully provisioned volume pvc-{bound.metadata.uid}"]

    lived(story)


def test_a_claim_outlives_its_pod_and_holds_the_next_one_on_its_node():
    async def story(world):
        await world.client.create(CLAIMS, claim("data"))
        await world.client.create("pods", using("p", "data"))
        await comes_true(world, lambda: get(world, "pods", "default/p").ready)
        node = get(world, "pods", "default/p").spec.node_name
        await world.client.delete("pods", "default/p")
        await comes_true(world, lambda: get(world, "pods", "default/p") is None)
        await world.power_off(node)
        await asyncio.sleep(5)
        await world.client.create("pods", using("q", "data"))
        await asyncio.sleep(5)
        told = get(world, "pods", "default/q").status.conditions[0].message
        assert told == (
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't match PersistentVolume's node affinity."
            + NO_HELP
        )
        await world.power_on(node)
        await comes_true(world, lambda: get(world, "pods", "default/q").ready)
        assert get(world, "pods", "default/q").spec.node_name == node

    lived(story)


def test_a_deleted_claim_stays_until_its_pod_is_gone_and_its_volume_until_the_data_is_removed():
    async def story(world):
        await world.client.create(CLAIMS, claim("data"))
        await world.client.create("pods", using("p", "data"))
        await comes_true(world, lambda: get(world, "pods", "default/p").ready)
        await world.client.delete(CLAIMS, "default/data")
        await asyncio.sleep(5)
        assert get(world, CLAIMS, "default/data").metadata.deletion_timestamp, "a pod uses it"
        node = world.fleet.nodes[get(world, "pods", "default/p").spec.node_name]
        await world.client.delete("pods", "default/p")
        await comes_true(world, lambda: get(world, "pods", "default/p") is None)
        await comes_true(world, lambda: not world.client.list(CLAIMS) and not world.client.list(VOLUMES))
        assert node.powered

    lived(story)


def test_a_bound_claim_says_since_when_no_pod_uses_it():
    """KEP-5541: pods that wait for a node count, pods that have ended don't."""

    async def story(world):
        def said():
            [told] = [each for each in get(world, CLAIMS, "default/data").status.conditions if each.type == "Unused"] or [None]
            return told and (told.status, told.reason, told.message)

        def since():
            return next(each.last_transition_time for each in get(world, CLAIMS, "default/data").status.conditions if each.type == "Unused")

        used = ("False", "PodUsingPVC", "A pod is currently referencing this PVC")
        free = ("True", "NoPodsUsingPVC", "No pods are currently referencing this PVC")
        await world.client.create(CLAIMS, claim("data"))
        await asyncio.sleep(2)
        assert said() is None, "it is not bound"
        short = using("p", "data")
        short["metadata"]["annotations"], short["spec"]["restartPolicy"] = {"sim.labctl.internal/ends": "3 0"}, "Never"
        await world.client.create("pods", short)
        await comes_true(world, lambda: said() == used)
        began = since()
        waiting = using("q", "data")
        waiting["spec"]["nodeSelector"] = {"no": "node"}
        await world.client.create("pods", waiting)
        await comes_true(world, lambda: get(world, "pods", "default/p").finished)
        await asyncio.sleep(2)
        assert said() == used and since() == began, "a pod that waits for a node wants it"
        await world.client.delete("pods", "default/q")
        await comes_true(world, lambda: said() == free)
        assert since() > began and get(world, "pods", "default/p").finished
        await world.client.delete(CLAIMS, "default/data")
        await world.client.create("pods", waiting)
        await asyncio.sleep(2)
        assert said() == free, "one that is deleted is left as it is"

    lived(story)


def test_a_volume_of_a_machine_that_is_off_is_removed_when_it_is_back_and_with_the_machine_if_it_never_is():
    async def story(world):
        for name in ("a", "b"):
            await world.client.create(CLAIMS, claim(name))
            await world.client.create("pods", using(name, name))
            await comes_true(world, lambda name=name: get(world, "pods", f"default/{name}").ready)
        where = {name: get(world, "pods", f"default/{name}").spec.node_name for name in ("a", "b")}
        assert where["a"] != where["b"]
        for name in ("a", "b"):
            await world.power_off(where[name])
            await world.client.delete("pods", f"default/{name}", grace_s=0)
            await world.client.delete(CLAIMS, f"default/{name}")
        await asyncio.sleep(5)
        assert not world.client.list(CLAIMS) and len(world.client.list(VOLUMES)) == 2
        await world.power_on(where["a"])
        await comes_true(world, lambda: len(world.client.list(VOLUMES)) == 1)
        await world.client.delete("machines.labctl.internal", where["b"])
        await world.client.delete("nodes", where["b"])
        await comes_true(world, lambda: not world.client.list(VOLUMES))

    lived(story)


def test_retain_keeps_the_volume_and_nobody_else_gets_it():
    async def story(world):
        await world.client.create(CLASSES, storage_class("keep", reclaimPolicy="Retain"))
        await world.client.create(CLAIMS, claim("data", storageClassName="keep"))
        await comes_true(world, lambda: set(phases(world).values()) == {"Bound"})
        await world.client.delete(CLAIMS, "default/data")
        await comes_true(world, lambda: list(phases(world).values()) == ["Released"])
        [old] = world.client.list(VOLUMES)
        await world.client.create(CLAIMS, claim("data", storageClassName="keep"))
        await comes_true(world, lambda: phases(world)["data"] == "Bound")
        assert get(world, CLAIMS, "default/data").spec.volume_name != old.metadata.name
        await world.client.patch(VOLUMES, old.metadata.name, {"spec": {"claimRef": None}})
        await comes_true(world, lambda: phases(world)[old.metadata.name] == "Available")

    lived(story)


def test_two_claims_for_one_volume_end_with_one_each_bound_or_waiting():
    async def story(world):
        await world.client.create(VOLUMES, on("minion-1", "small", "1Gi"))
        await world.client.create(VOLUMES, on("minion-1", "big", "5Gi"))
        for name in ("a", "b", "c"):
            await world.client.create(CLAIMS, claim(name, storageClassName=""))
        await asyncio.sleep(3)
        assert sorted(phases(world).values()) == ["Bound"] * 4 + ["Pending"]
        bound = {each.spec.volume_name for each in world.client.list(CLAIMS)}
        assert bound == {"small", "big", ""}
        assert events(world, "FailedBinding") == ["no persistent volumes available for this claim and no storage class is set"]

    lived(story)


def test_static_volumes_of_a_class_that_waits_choose_the_node_with_the_pod():
    async def story(world):
        await world.client.create(CLASSES, storage_class("disks", "kubernetes.io/no-provisioner", "WaitForFirstConsumer"))
        await world.client.create(VOLUMES, on("minion-2", "d1", class_="disks"))
        await world.client.create(VOLUMES, on("minion-2", "d2", class_="disks"))
        for name in ("x", "y", "z"):
            await world.client.create(CLAIMS, claim(name, storageClassName="disks"))
        await world.client.create("pods", using("p", "x", "y"))
        await comes_true(world, lambda: get(world, "pods", "default/p").ready)
        assert get(world, "pods", "default/p").spec.node_name == "minion-2"
        await world.client.create("pods", using("q", "z"))
        await asyncio.sleep(2)
        told = get(world, "pods", "default/q").status.conditions[0].message
        assert told == "0/3 nodes are available: 3 node(s) didn't find available persistent volumes to bind." + NO_HELP
        await world.client.create(VOLUMES, on("minion-3", "d3", class_="disks"))
        await comes_true(world, lambda: get(world, "pods", "default/q").ready)

    lived(story)


def test_why_a_pod_can_be_placed_nowhere_in_kubernetes_words():
    async def story(world):
        await world.client.create(CLAIMS, claim("unbound", storageClassName=""))
        for name, wanted in (("p", "none"), ("q", "unbound")):
            await world.client.create("pods", using(name, wanted))
        await asyncio.sleep(2)
        said = {each.metadata.name: each.status.conditions[0].message for each in world.client.list("pods")}
        assert said == {
            "p": '0/3 nodes are available: persistentvolumeclaim "none" not found.' + NO_HELP,
            "q": "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims." + NO_HELP,
        }
        await world.client.create(CLAIMS, claim("none"))
        await comes_true(world, lambda: get(world, "pods", "default/p").ready)
        await world.client.create(VOLUMES, on("minion-3", "v"))
        await comes_true(world, lambda: get(world, "pods", "default/q").ready)

    lived(story)


def test_an_ephemeral_volume_has_a_claim_of_its_own_that_goes_with_the_pod():
    async def story(world):
        def ephemeral(name):
            obj = pod(name)
            template = {"metadata": {"labels": {"a": "b"}}, "spec": claim("x")["spec"]}
            obj["spec"]["volumes"] = [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]
            return obj

        await world.client.create(CLAIMS, claim("q-scratch"))
        for name in ("p", "q"):
            await world.client.create("pods", ephemeral(name))
        await comes_true(world, lambda: get(world, "pods", "default/p").ready)
        own = get(world, CLAIMS, "default/p-scratch")
        assert (own.metadata.controller.uid, own.metadata.labels) == (get(world, "pods", "default/p").metadata.uid, {"a": "b"})
        told = get(world, "pods", "default/q").status.conditions[0].message
        assert told == "0/3 nodes are available: PVC default/q-scratch was not created for pod default/q (pod is not owner)." + NO_HELP
        await world.client.delete(CLAIMS, "default/q-scratch")
        await comes_true(world, lambda: get(world, "pods", "default/q").ready)
        for name in ("p", "q"):
            await world.client.delete("pods", f"default/{name}")
        await comes_true(world, lambda: not world.client.list(CLAIMS) and not world.client.list(VOLUMES), 60)

    lived(story)


def test_one_pod_only_means_one_pod():
    async def story(world):
        await world.client.create(CLAIMS, claim("data", modes=["ReadWriteOncePod"]))
        await world.client.create("pods", using("p", "data"))
        await comes_true(world, lambda: get(world, "pods", "default/p").ready)
        await world.client.create("pods", using("q", "data"))
        await asyncio.sleep(2)
        assert "ReadWriteOncePod" in get(world, "pods", "default/q").status.conditions[0].message
        await world.client.delete("pods", "default/p")
        await comes_true(world, lambda: get(world, "pods", "default/q").ready)

    lived(story)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"storageClassName": "absent"}, 'storageclass.storage.k8s.io "absent" not found'),
        ({"modes": ["ReadWriteMany"], "storageClassName": "now"}, "the access modes may be ReadWriteOnce and ReadWriteOncePod"),
        ({"volumeMode": "Block", "storageClassName": "now"}, "volumeMode must be Filesystem"),
        ({"selector": {"matchLabels": {"a": "b"}}, "storageClassName": "now"}, "Selector is not supported for dynamic provisioning"),
    ],
)
def test_what_can_not_be_made_is_told(asked, words):
    async def story(world):
        await world.client.create(CLASSES, storage_class("now"))
        await world.client.create(CLAIMS, claim("data", **asked))
        await asyncio.sleep(2)
        [told] = events(world, "ProvisioningFailed")
        assert words in told
        assert phases(world) == {"data": "Pending"}

    lived(story)


def test_a_static_volume_that_nobody_can_delete_has_failed():
    async def story(world):
        await world.client.create(VOLUMES, on("minion-1", "v", policy="Delete"))
        await world.client.create(CLAIMS, claim("data", storageClassName=""))
        await comes_true(world, lambda: set(phases(world).values()) == {"Bound"})
        await world.client.delete(CLAIMS, "default/data")
        await comes_true(world, lambda: phases(world) == {"v": "Failed"})
        await comes_true(world, lambda: events(world, "VolumeFailedDelete"))
        assert events(world, "VolumeFailedDelete") == [
            'error getting deleter volume plugin for volume "v": no deletable volume plugin matched'
        ]

    lived(story)


def test_a_claim_whose_volume_was_taken_away_by_force_is_lost():
    async def story(world):
        await world.client.create(VOLUMES, on("minion-1", "v"))
        await world.client.create(CLAIMS, claim("data", storageClassName="", volumeName="v"))
        await comes_true(world, lambda: set(phases(world).values()) == {"Bound"})
        await world.client.delete(VOLUMES, "v")
        await asyncio.sleep(1)
        assert get(world, VOLUMES, "v").metadata.deletion_timestamp, "it is bound"
        await world.client.patch(VOLUMES, "v", {"metadata": {"finalizers": None}})
        await comes_true(world, lambda: phases(world) == {"data": "Lost"})
        await comes_true(world, lambda: events(world, "ClaimLost"))
        assert events(world, "ClaimLost") == ["Bound claim has lost its PersistentVolume. Data on the volume is lost!"]

    lived(story)


def test_the_default_class_reaches_claims_that_were_there_before_it():
    async def story(world):
        await world.client.delete(CLASSES, "standard")
        await world.client.create(CLAIMS, claim("old"))
        await world.client.create(CLAIMS, claim("none", storageClassName=""))
        await asyncio.sleep(1)
        assert get(world, CLAIMS, "default/old").spec.storage_class_name is None
        marked = storage_class("mine")
        marked["metadata"]["annotations"] = {"storageclass.kubernetes.io/is-default-class": "true"}
        await world.client.create(CLASSES, marked)
        await comes_true(world, lambda: get(world, CLAIMS, "default/old").status.phase == "Bound")
        assert get(world, CLAIMS, "default/none").spec.storage_class_name == ""

    lived(story)


def test_a_claim_does_not_grow_on_a_minions_disk():
    async def story(world):
        await world.client.create(CLASSES, storage_class("grows", allowVolumeExpansion=True))
        await world.client.create(CLASSES, storage_class("fixed"))
        for name in ("grows", "fixed"):
            await world.client.create(CLAIMS, claim(name, storageClassName=name))
        await comes_true(world, lambda: set(phases(world).values()) == {"Bound"})
        more = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
        with pytest.raises(ApiError, match="only dynamically provisioned pvc can be resized and the storageclass that provisions"):
            await world.client.patch(CLAIMS, "default/fixed", more)
        with pytest.raises(ApiError, match="can not resize them"):
            await world.client.patch(CLAIMS, "default/grows", more)

    lived(story)


def test_a_set_with_claims_keeps_each_number_on_its_volume():
    async def story(world):
        template = claim("data")
        template["metadata"].pop("namespace")
        whole = stateful_set("db", 3, volumeClaimTemplates=[template])
        whole["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
        await world.client.create(SETS, whole)
        await until(world, lambda: all_good(world, 3))
        before = {p.metadata.name: p.spec.node_name for p in alive(world)}
        for name in before:
            await world.client.delete("pods", f"default/{name}")
        await asyncio.sleep(1)
        await until(world, lambda: all_good(world, 3))
        assert {p.metadata.name: p.spec.node_name for p in alive(world)} == before

    lived(story)


def test_killing_the_master_again_and_again_binds_every_claim_to_one_volume_of_its_own():
    async def story(world):
        await world.client.create(CLASSES, storage_class("now"))
        for number in range(12):
            kind = "now" if number % 2 else "standard"
            await world.client.create(CLAIMS, claim(f"c{number}", storageClassName=kind))
            await world.client.create("pods", using(f"p{number}", f"c{number}"))
            if number % 3 == 0:
                await world.restart_master()
        await comes_true(world, lambda: all(p.ready for p in world.client.list("pods")), 60)
        volumes = {each.metadata.name: each for each in world.client.list(VOLUMES)}
        claims = world.client.list(CLAIMS)
        assert len(volumes) == len(claims) == 12 and set(phases(world).values()) == {"Bound"}
        for each in claims:
            assert volumes[each.spec.volume_name].spec.claim_ref.uid == each.metadata.uid

    lived(story)
