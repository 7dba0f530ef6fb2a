"""PodCertificateRequests are deleted half an hour after they were made, answered or not, and with their pods."""

from __future__ import annotations

import asyncio

from labctl.clock import parse_rfc3339
from labctl.controllers.podcertificates import KEPT_S
from labctl.resources.plurals import POD_SIGNING_REQUESTS
from labctl.sim.clock import run
from labctl.sim.world import World
from tests.api.test_pod_certificates import end, request


def asked(name):
    body = request(name)
    body["metadata"]["namespace"] = "default"
    return body


def test_what_is_old_goes():
    async def live():
        world = World(seed=1)
        await world.start(nodes=1)

        def there(name):
            return world.client.get(POD_SIGNING_REQUESTS, f"default/{name}") is not None

        async def until_old(name, left_s):
            """A request is checked in a thread, while which virtual time runs on: only what the object says tells how old it is."""
            made_s = parse_rfc3339(world.client.get(POD_SIGNING_REQUESTS, f"default/{name}").metadata.creation_timestamp)
            await asyncio.sleep(made_s + KEPT_S - left_s - world.clock.wall())

        await world.client.create(POD_SIGNING_REQUESTS, asked("pending"))
        await until_old("pending", left_s=5)
        assert there("pending")
        await asyncio.sleep(10)
        assert not there("pending")

        await world.client.create(POD_SIGNING_REQUESTS, asked("denied"))
        await world.client.patch(POD_SIGNING_REQUESTS, "default/denied", {"status": {"conditions": [end("Denied")]}}, "status")
        await until_old("denied", left_s=5)
        assert there("denied")
        await asyncio.sleep(10)
        assert not there("denied")
        await world.stop()

    run(live())


def test_a_pods_requests_go_with_it():
    async def live():
        world = World(seed=1)
        await world.start(nodes=1)
        pod = await world.client.create(
            "pods", {"metadata": {"name": "web", "namespace": "default"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
        )
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": pod.metadata.uid}
        body = asked("asked")
        body["metadata"]["ownerReferences"] = [owner]
        await world.client.create(POD_SIGNING_REQUESTS, body)
        await world.client.delete("pods", "default/web")
        await asyncio.sleep(60)
        assert world.client.get(POD_SIGNING_REQUESTS, "default/asked") is None
        await world.stop()

    run(live())
