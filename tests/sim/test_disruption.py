"""Disruption budgets in a whole world in virtual time."""

import asyncio

import pytest

from labctl.errors import ApiError
from labctl.sim.objects import deployment, pod
from tests.sim.test_deployments import lived, rolled

BUDGETS = "poddisruptionbudgets.policy"


def budget(**spec):
    return {
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"name": "web"}}, **spec},
    }


async def made(world, replicas=3, **spec):
    await world.client.create("deployments.apps", deployment("web", replicas))
    await world.client.create(BUDGETS, budget(**spec))
    await rolled(world)
    await allowed(world)


def status(world):
    return world.client.get(BUDGETS, "default/web").status


async def allowed(world):
    """The number that is allowed, once the controller has seen all there is."""
    for _ in range(20):
        await asyncio.sleep(0.1)
    return status(world).disruptions_allowed


async def evict(world, name):
    resources = world.resources
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}}
    await resources.create(resources.registry["pods"], "default", body, name=name, subresource="eviction")


def pods(world):
    return sorted(p.metadata.name for p in world.client.list("pods") if p.active)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"minAvailable": 2}, 1),
        ({"maxUnavailable": 1}, 1),
        ({"minAvailable": "50%"}, 1),
        ({"maxUnavailable": "34%"}, 2),
        ({"minAvailable": 3}, 0),
        ({"maxUnavailable": 0}, 0),
    ],
)
def test_how_many_may_go(spec, expected):
    async def story(world):
        await made(world, **spec)
        assert await allowed(world) == expected
        assert (status(world).expected_pods, status(world).current_healthy) == (3, 3)

    lived(story)


def test_one_after_the_other_and_never_two_at_once():
    async def story(world):
        await made(world, minAvailable=2)
        first, second, _ = pods(world)
        await evict(world, first)
        with pytest.raises(ApiError) as refused:
            await evict(world, second)
        assert refused.value.code == 429
        assert "Cannot evict pod as it would violate the pod's disruption budget." in str(refused.value)
        await rolled(world)
        assert await allowed(world) == 1
        await evict(world, second)

    lived(story)


def test_two_evictions_at_the_same_moment_take_one_disruption():
    async def story(world):
        await made(world, 5, minAvailable=4)
        results = await asyncio.gather(*(evict(world, name) for name in pods(world)), return_exceptions=True)
        assert sum(result is None for result in results) == 1

    lived(story)


def test_a_pod_that_was_to_go_and_stays_is_not_believed_for_ever():
    async def story(world):
        await made(world, minAvailable=2)
        name = pods(world)[0]
        stamp = world.client.raw("pods", f"default/{name}")["metadata"]["creationTimestamp"]
        await world.client.patch(BUDGETS, "default/web", {"status": {"disruptedPods": {name: stamp}, "disruptionsAllowed": 0}}, "status")
        assert await allowed(world) == 0
        with pytest.raises(ApiError) as refused:
            await evict(world, pods(world)[1])
        [cause] = refused.value.details["causes"]
        assert cause["message"] == "The disruption budget web needs 2 healthy pods and has 2 currently"
        await asyncio.sleep(130)
        assert status(world).disruptions_allowed == 1 and not status(world).disrupted_pods

    lived(story)


def test_pods_without_a_controller_have_no_share_to_count():
    async def story(world):
        await world.client.create("pods", pod("bare", labels={"name": "web"}))
        await world.client.create(BUDGETS, budget(maxUnavailable=1))
        await allowed(world)
        [said] = status(world).conditions
        assert (said.status, said.reason) == ("False", "SyncFailed")
        await asyncio.sleep(10)
        with pytest.raises(ApiError) as refused:
            await evict(world, "bare")
        why = f"The disruption budget web does not allow evicting pods currently because it failed sync: {said.message}"
        assert refused.value.details["causes"] == [{"reason": "DisruptionBudget", "message": why}]

    lived(story)


def test_two_budgets_for_one_pod_are_refused():
    async def story(world):
        await made(world, minAvailable=1)
        other = budget(minAvailable=1)
        other["metadata"]["name"] = "other"
        await world.client.create(BUDGETS, other)
        with pytest.raises(ApiError, match="more than one PodDisruptionBudget"):
            await evict(world, pods(world)[0])

    lived(story)
