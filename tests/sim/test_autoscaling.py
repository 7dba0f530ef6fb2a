"""HorizontalPodAutoscalers in a whole world in virtual time: the pods' use is made up, all else is real."""

import asyncio

import pytest

from labctl.resources.usage import ContainerUse, NodeUse
from labctl.sim.clock import run
from labctl.sim.objects import deployment
from labctl.sim.settings import HollowSettings
from labctl.sim.world import World

QUICK = HollowSettings(told_s=(0.01, 0.05), start_s=(0.02, 0.2))
DEPLOYMENTS, AUTOSCALERS = "deployments.apps", "horizontalpodautoscalers.autoscaling"


class Load:
    """So much CPU in all, shared by the pods that run; `missing` pods have no reading."""

    def __init__(self):
        self.world, self.millicores, self.memory, self.missing, self.away = None, 0, 50 << 20, set(), False

    def node(self, name):
        if self.away:
            return None
        running = [
            p for p in self.world.client.list("pods") if p.active and p.status.phase == "Running" and p.metadata.labels.get("name") == "web"
        ]
        each = ContainerUse(self.millicores * 1_000_000 // max(1, len(running)), self.memory)
        mine = {p.metadata.uid: {"c": each} for p in running if p.spec.node_name == name and p.metadata.name not in self.missing}
        return NodeUse(self.world.clock.wall(), 15.0, ContainerUse(), mine)

    async def refresh(self, names=None):
        pass


def autoscaler(most=10, least=1, metrics=None, kind="Deployment", **spec):
    target = {"apiVersion": "apps/v1", "kind": kind, "name": "web"}
    spec = {"scaleTargetRef": target, "minReplicas": least, "maxReplicas": most, **spec}
    if metrics is None:
        metrics = [cpu(50)]
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": {**spec, "metrics": metrics}}


def cpu(share):
    return {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": share}}}


def lived(story, replicas=2, requests=True, own=None):
    async def live():
        load = Load()
        world = load.world = World(1, QUICK, usage=load)
        await world.start(3)
        assert not await world.calm(10)
        web = deployment("web", replicas)
        [container] = web["spec"]["template"]["spec"]["containers"]
        container["name"] = "c"
        if requests:
            container["resources"] = {"requests": {"cpu": "100m", "memory": "100Mi"}}
        if own:
            web["spec"]["template"]["spec"]["resources"] = {"requests": own}
        await world.client.create(DEPLOYMENTS, web)
        await asyncio.sleep(400)  # longer than a pod is taken to have only begun
        await story(world, load)
        await world.stop()

    run(live())


def size(world):
    return world.client.get(DEPLOYMENTS, "default/web").spec.replicas


def status(world):
    return world.client.get(AUTOSCALERS, "default/web").status


def said(world, kind):
    found = next((c for c in status(world).conditions if c.type == kind), None)
    return (found.status, found.reason) if found else None


def events(world):
    return [(e.reason, e.message) for e in world.client.list("events") if e.involved_object.kind == "HorizontalPodAutoscaler"]


async def until(world, told, within_s):
    began = world.clock.now()
    while not told():
        assert world.clock.now() < began + within_s, status(world)
        await asyncio.sleep(1)
    return world.clock.now() - began


def test_a_pods_own_request_is_what_its_usage_is_a_share_of():
    async def story(world, load):
        load.millicores = 1200  # 150 % of two pods of 400m, though their containers ask for nothing
        await world.client.create(AUTOSCALERS, autoscaler())
        await until(world, lambda: size(world) == 6, 40)

    lived(story, requests=False, own={"cpu": "400m"})


def test_it_grows_with_the_load_and_shrinks_after_the_window():
    async def story(world, load):
        load.millicores = 300  # 150 % of two pods' requests; 50 % wanted: 6 pods
        await world.client.create(AUTOSCALERS, autoscaler())
        await until(world, lambda: size(world) == 6, 40)
        assert said(world, "ScalingActive") == ("True", "ValidMetricFound")
        assert ("SuccessfulRescale", "New size: 6; reason: cpu resource utilization (percentage of request) above target") in events(world)
        await asyncio.sleep(60)
        assert size(world) == 6 and status(world).current_metrics[0].resource.current.average_utilization == 50
        load.millicores = 50
        await asyncio.sleep(280)
        assert size(world) == 6 and said(world, "AbleToScale") == ("True", "ScaleDownStabilized")
        await until(world, lambda: size(world) == 1, 60)
        assert any("All metrics below target" in message for _, message in events(world))
        assert said(world, "ScalingLimited") in (("False", "DesiredWithinRange"), ("True", "TooFewReplicas"))

    lived(story)


def test_a_tenth_more_or_less_changes_nothing():
    async def story(world, load):
        load.millicores = 109  # 54.5 % of the request
        await world.client.create(AUTOSCALERS, autoscaler())
        await asyncio.sleep(60)
        assert size(world) == 2
        load.millicores = 112
        await until(world, lambda: size(world) == 3, 40)

    lived(story)


def test_it_keeps_to_its_bounds_and_says_so():
    async def story(world, load):
        load.millicores = 1000
        await world.client.create(AUTOSCALERS, autoscaler(most=3))
        await until(world, lambda: size(world) == 3, 40)
        await until(world, lambda: said(world, "ScalingLimited") == ("True", "TooManyReplicas"), 40)

    lived(story)


def test_a_number_outside_of_its_bounds_is_brought_inside():
    async def story(world, load):
        load.away = True
        await world.client.create(AUTOSCALERS, autoscaler(least=4))
        await until(world, lambda: size(world) == 4, 20)
        assert ("SuccessfulRescale", "New size: 4; reason: Current number of replicas below Spec.MinReplicas") in events(world)

    lived(story)


def test_policies_bound_the_speed():
    async def story(world, load):
        load.millicores = 2000
        up = {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}
        await world.client.create(AUTOSCALERS, autoscaler(behavior={"scaleUp": up}))
        await until(world, lambda: size(world) == 3, 40)
        await asyncio.sleep(20)
        assert size(world) == 3 and said(world, "ScalingLimited") == ("True", "ScaleUpLimit")
        await asyncio.sleep(60)
        assert size(world) == 4

    lived(story)


def test_growing_may_be_forbidden():
    async def story(world, load):
        load.millicores = 2000
        await world.client.create(AUTOSCALERS, autoscaler(behavior={"scaleUp": {"selectPolicy": "Disabled"}}))
        await asyncio.sleep(60)
        assert size(world) == 2

    lived(story)


def test_nothing_is_changed_while_nobody_knows():
    async def story(world, load):
        load.away = True
        await world.client.create(AUTOSCALERS, autoscaler())
        await asyncio.sleep(40)
        assert size(world) == 2 and said(world, "ScalingActive") == ("False", "FailedGetResourceMetric")
        words = "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API"
        assert ("FailedGetResourceMetric", words) in events(world)

    lived(story)


def test_a_container_without_a_request_has_no_share():
    async def story(world, load):
        load.millicores = 500
        await world.client.create(AUTOSCALERS, autoscaler())
        await asyncio.sleep(40)
        assert size(world) == 2
        assert any("missing request for cpu in container c of Pod web-" in message for _, message in events(world))

    lived(story, requests=False)


def test_missing_pods_hold_back_what_is_done():
    async def story(world, load):
        load.missing = {sorted(p.metadata.name for p in world.client.list("pods"))[0]}
        load.millicores = 160  # the pod that is seen: 80 %; with the other at nothing: 40 %
        await world.client.create(AUTOSCALERS, autoscaler())
        await asyncio.sleep(40)
        assert size(world) == 2, "the missing one counts as idle before growing"
        load.millicores = 20
        await asyncio.sleep(400)
        assert size(world) == 2, "and as busy before shrinking"

    lived(story)


def test_average_values_of_memory_and_of_one_container():
    async def story(world, load):
        memory = {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "25Mi"}}}
        one = {"name": "cpu", "container": "c", "target": {"type": "Utilization", "averageUtilization": 60}}
        await world.client.create(AUTOSCALERS, autoscaler(metrics=[{"type": "ContainerResource", "containerResource": one}, memory]))
        await until(world, lambda: size(world) == 4, 40)
        [container, pods] = status(world).current_metrics
        assert container.container_resource.container == "c" and pods.resource.current.average_value == "52428800"

    lived(story)


def test_what_can_not_be_scaled_and_what_is_scaled_to_nothing():
    async def story(world, load):
        await world.client.create(AUTOSCALERS, autoscaler(kind="StatefulSet"))
        await until(world, lambda: said(world, "AbleToScale") == ("False", "FailedGetScale"), 20)
        assert ("FailedGetScale", 'statefulsets.apps "web" not found') in events(world)
        await world.client.patch(AUTOSCALERS, "default/web", {"spec": {"scaleTargetRef": {"kind": "Deployment"}}})
        await world.client.patch(DEPLOYMENTS, "default/web", {"spec": {"replicas": 0}})
        await until(world, lambda: said(world, "ScalingActive") == ("False", "ScalingDisabled"), 40)
        assert size(world) == 0

    lived(story)


def test_two_autoscalers_of_the_same_pods_change_nothing():
    async def story(world, load):
        load.millicores = 800
        other = autoscaler(metrics=[cpu(90)])
        other["metadata"]["name"] = "again"
        await asyncio.gather(world.client.create(AUTOSCALERS, autoscaler()), world.client.create(AUTOSCALERS, other))
        await until(world, lambda: said(world, "ScalingActive") == ("False", "AmbiguousSelector"), 40)
        message = "pods by selector name=web are controlled by multiple HPAs: [{again default} {web default}]"
        assert ("AmbiguousSelector", message) in events(world) and size(world) == 2
        await world.client.delete(AUTOSCALERS, "default/again")
        await until(world, lambda: size(world) > 2, 40)

    lived(story)


def test_a_status_that_says_the_same_is_not_written_again():
    async def story(world, load):
        load.millicores = 100
        await world.client.create(AUTOSCALERS, autoscaler())
        await asyncio.sleep(60)
        before = world.client.get(AUTOSCALERS, "default/web").metadata.revision
        await asyncio.sleep(100)
        assert world.client.get(AUTOSCALERS, "default/web").metadata.revision == before

    lived(story)


def test_each_condition_says_of_which_generation_it_is():
    async def story(world, load):
        load.millicores = 100

        def observed():
            stored = world.client.raw(AUTOSCALERS, "default/web")["status"]
            return {each["type"]: each.get("observedGeneration") for each in stored["conditions"]}

        await world.client.create(AUTOSCALERS, autoscaler())
        await asyncio.sleep(60)
        assert set(observed().values()) == {1} and "ScalingActive" in observed()
        await world.client.patch(AUTOSCALERS, "default/web", {"spec": {"maxReplicas": 9}})
        await asyncio.sleep(60)
        assert {kind: observed()[kind] for kind in ("AbleToScale", "ScalingActive", "ScalingLimited")} == dict.fromkeys(
            ("AbleToScale", "ScalingActive", "ScalingLimited"), 2
        )

    lived(story)


@pytest.mark.parametrize("replicas", [1, 3])
def test_pods_that_only_began_count_as_idle_before_growing(replicas):
    async def story(world, load):
        await world.client.patch(DEPLOYMENTS, "default/web", {"spec": {"replicas": replicas}})
        await asyncio.sleep(1)
        load.millicores = 20 * replicas
        await world.client.create(AUTOSCALERS, autoscaler())
        await asyncio.sleep(30)
        assert size(world) == replicas

    lived(story, replicas=1)
