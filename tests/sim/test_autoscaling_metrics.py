"""Autoscalers by metrics that other servers tell (types Pods, Object, External), in virtual time: what the servers say is made up, all else is real."""

import asyncio

import pytest

from labctl.controllers.autoscaling.autoscalers import Autoscalers
from labctl.resources.measures import CUSTOM, EXTERNAL, Measured, NoMetrics, Query
from labctl.sim.clock import run
from labctl.sim.objects import deployment
from labctl.sim.world import World
from tests.sim.test_autoscaling import AUTOSCALERS, DEPLOYMENTS, QUICK, autoscaler, events, said, size, status, until

SELECTOR = {"matchLabels": {"queue": "mail"}}
PODS_CALLED = "<pods>"  # in the place of the pods' names


class Adapter:
    """Answers each query a moment after it was first asked, with the numbers of `says` by the metric's name, or with their text. An answer stays for 5 s."""

    def __init__(self, **says):
        self.says, self.asked, self.world, self.answered_s = says, [], None, {}

    def read(self, query):
        now = self.world.clock.now()
        if now - self.answered_s.get(query, -10.0) > 5.0:
            self.asked.append(query)
            if self.asked.count(query) % 3:
                return None
            self.answered_s[query] = now
        found = self.says[query.metric]
        if isinstance(found, dict) and PODS_CALLED in found:
            names = sorted(pod.metadata.name for pod in self.world.client.list("pods") if pod.active)
            return Measured(tuple(zip(names, found[PODS_CALLED], strict=False)))
        return found if isinstance(found, str) else Measured(tuple(found.items()))


def lived(story, measures, replicas=2):
    async def live():
        world = measures.world = World(1, QUICK, measures=measures)
        await world.start(3)
        assert not await world.calm(10)
        await world.client.create(DEPLOYMENTS, deployment("web", replicas))
        await asyncio.sleep(20)
        await story(world)
        await world.stop()

    run(live())


def metric(kind, name, about=None, selector=None, **target):
    [(field, value)] = target.items()
    kinds = {"value": "Value", "averageValue": "AverageValue"}
    source = {"metric": {"name": name, **({"selector": selector} if selector else {})}, "target": {"type": kinds[field], field: value}}
    if about:
        source["describedObject"] = about
    return {"type": kind, kind.lower(): source}


SERVICE = {"apiVersion": "v1", "kind": "Service", "name": "front"}
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "name": "default"}


@pytest.mark.parametrize(
    ("wanted", "told", "query", "replicas", "title", "shown"),
    [
        (
            metric("External", "jobs", averageValue="5", selector=SELECTOR),
            {"": 20_000, "other": 8_500},
            Query(EXTERNAL, "default", "jobs", "queue=mail"),
            6,
            "external metric jobs(&LabelSelector{MatchLabels:map[string]string{queue: mail,},MatchExpressions:[]LabelSelectorRequirement{},})",
            {"metric": {"name": "jobs", "selector": SELECTOR}, "current": {"averageValue": "14250m"}},
        ),
        (
            metric("External", "jobs", value="10"),
            {"": 25_000},
            Query(EXTERNAL, "default", "jobs"),
            5,
            "external metric jobs(nil)",
            {"metric": {"name": "jobs"}, "current": {"value": "25"}},
        ),
        (
            metric("Object", "hits", SERVICE, value="100"),
            {"front": 150_000},
            Query(CUSTOM, "default", "hits", "", "services", "front"),
            3,
            "Service metric hits",
            {"metric": {"name": "hits"}, "current": {"value": "150"}, "describedObject": SERVICE},
        ),
        (
            metric("Object", "hits", NAMESPACE, averageValue="100"),
            {"default": 500_000},
            Query(CUSTOM, "default", "hits", "", "namespaces", "default"),
            5,
            "external metric hits(nil)",
            {"metric": {"name": "hits"}, "current": {"averageValue": "250"}, "describedObject": NAMESPACE},
        ),
        (
            metric("Pods", "hits", averageValue="1"),
            {PODS_CALLED: [1_000, 3_001]},
            Query(CUSTOM, "default", "hits", "", "pods", "*", "name=web"),
            4,
            "pods metric hits",
            {"metric": {"name": "hits"}, "current": {"averageValue": "2"}},
        ),
    ],
)
def test_each_type_grows_the_target_as_far_as_it_asks_for(wanted, told, query, replicas, title, shown):
    adapter = Adapter(**{query.metric: told})

    async def story(world):
        await world.client.create(AUTOSCALERS, autoscaler(metrics=[wanted]))
        assert await until(world, lambda: size(world) == replicas, 5) < 5
        assert {*adapter.asked} == {query}
        assert ("SuccessfulRescale", f"New size: {replicas}; reason: {title} above target") in events(world)
        message = next(each.message for each in status(world).conditions if each.type == "ScalingActive")
        assert message == f"the HPA was able to successfully calculate a replica count from {title}"
        found = world.client.raw(AUTOSCALERS, "default/web")["status"]["currentMetrics"]
        kind = wanted["type"]
        if kind == "Pods":
            assert found[0]["pods"]["current"]["averageValue"] in ("2", "2001m")
        else:
            assert found == [{"type": kind, kind.lower(): shown}]

    lived(story, adapter)


@pytest.mark.parametrize(
    ("wanted", "reason", "message", "event"),
    [
        (
            metric("External", "jobs", averageValue="5"),
            "FailedGetExternalMetric",
            "unable to get external metric default/jobs/nil: unable to fetch metrics from external metrics API: "
            "the server could not find the requested resource (get jobs.external.metrics.k8s.io)",
            "failed to get jobs external metric value: failed to get jobs external metric: ",
        ),
        (
            metric("Pods", "hits", averageValue="5"),
            "FailedGetPodsMetric",
            "unable to get metric hits: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered",
            "failed to get pods metric value: ",
        ),
        (
            metric("Object", "hits", SERVICE, value="5"),
            "FailedGetObjectMetric",
            "unable to get metric hits: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"
            " on default Service/front",
            "failed to get object metric value: ",
        ),
    ],
)
def test_without_an_adapter_the_condition_says_so(wanted, reason, message, event):
    class Nobody(NoMetrics):
        world = None

    async def story(world):
        await world.client.create(AUTOSCALERS, autoscaler(metrics=[wanted]))
        await until(world, lambda: said(world, "ScalingActive") == ("False", reason), 20)
        told = next(each.message for each in status(world).conditions if each.type == "ScalingActive")
        assert told == f"the HPA was unable to compute the replica count: {message}"
        first = f"invalid metrics (1 invalid out of 1), first error is: {event}{message}"
        assert ("FailedComputeMetricsReplicas", first) in events(world) and size(world) == 2

    lived(story, Nobody())


def test_a_server_that_fails_lets_the_target_grow_by_the_other_metrics_and_never_shrink():
    adapter = Adapter(hits="it is asleep", jobs={"": 40_000})
    both = [metric("Object", "hits", SERVICE, value="5"), metric("External", "jobs", averageValue="10")]

    async def story(world):
        await world.client.create(AUTOSCALERS, autoscaler(metrics=both))
        await until(world, lambda: size(world) == 4, 5)
        adapter.says["jobs"] = {"": 10_000}
        await until(world, lambda: said(world, "ScalingActive") == ("False", "FailedGetObjectMetric"), 40)
        await asyncio.sleep(400)
        assert size(world) == 4
        adapter.says["hits"] = {"front": 5_000}
        await until(world, lambda: size(world) == 4 and said(world, "ScalingActive") == ("True", "ValidMetricFound"), 40)

    lived(story, adapter)


def test_an_empty_queue_brings_the_target_to_zero_and_work_brings_it_back():
    adapter = Adapter(jobs={"": 0})
    queue = metric("External", "jobs", value="10")

    async def story(world):
        await world.client.create(AUTOSCALERS, autoscaler(least=0, metrics=[queue]))
        await until(world, lambda: size(world) == 0, 400)
        assert said(world, "ScaledToZero") == ("True", "ScaledToZero")
        await asyncio.sleep(100)
        assert size(world) == 0 and said(world, "ScalingActive") == ("True", "ValidMetricFound")
        assert said(world, "ScaledToZero") == ("True", "ScaledToZero")
        adapter.says["jobs"] = {"": 25_000}
        await until(world, lambda: size(world) == 3, 20)
        assert said(world, "ScaledToZero") == ("False", "NotScaledToZero")
        adapter.says["jobs"] = {"": 0}
        await until(world, lambda: size(world) == 0, 400)
        await world.client.patch(AUTOSCALERS, "default/web", {"spec": {"minReplicas": 1}})
        await until(world, lambda: size(world) == 1, 20)
        assert said(world, "ScaledToZero") == ("False", "NotScaledToZero")

    lived(story, adapter)


def test_a_target_that_somebody_else_brought_to_zero_is_left_alone():
    adapter = Adapter(jobs={"": 90_000})

    async def story(world):
        await world.client.patch(DEPLOYMENTS, "default/web", {"spec": {"replicas": 0}})
        await world.client.create(AUTOSCALERS, autoscaler(least=0, metrics=[metric("External", "jobs", value="10")]))
        await until(world, lambda: said(world, "ScalingActive") == ("False", "ScalingDisabled"), 20)
        await asyncio.sleep(100)
        assert size(world) == 0 and said(world, "ScaledToZero") is None

    lived(story, adapter)


def test_while_a_server_is_asked_nothing_else_is_looked_at():
    class Silent(NoMetrics):
        world, asked = None, 0

        def read(self, query):
            self.asked += 1

    adapter = Silent()

    async def story(world):
        looked, whole = [], Autoscalers._rivals
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Autoscalers, "_rivals", lambda *given: looked.append(1) or whole(*given))
            await world.client.create(AUTOSCALERS, autoscaler(metrics=[metric("External", "jobs", value="10")]))
            await asyncio.sleep(10)
        assert adapter.asked > 50 and len(looked) == 1

    lived(story, adapter)


def test_a_number_that_stays_is_written_once():
    adapter = Adapter(jobs={"": 10_000})

    async def story(world):
        await world.client.create(AUTOSCALERS, autoscaler(metrics=[metric("External", "jobs", averageValue="5", selector=SELECTOR)]))
        await asyncio.sleep(60)
        before = world.client.get(AUTOSCALERS, "default/web").metadata.revision
        await asyncio.sleep(100)
        assert world.client.get(AUTOSCALERS, "default/web").metadata.revision == before and size(world) == 2

    lived(story, adapter)
