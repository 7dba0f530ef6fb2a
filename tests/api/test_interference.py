"""A named client's requests are delayed and refused on purpose; others are not, and what heals faults always passes."""

from __future__ import annotations

import time
from random import Random

import pytest

from labctl.api.interference import ApiFault, Interference
from labctl.api.route import parse
from labctl.errors import ApiError
from labctl.sim.clock import VirtualClock, run
from tests.inprocess import ApiServer

ADMIN = "labctl-admin"
PODS = "/api/v1/namespaces/default/pods"
FAULTS = "/apis/labctl.internal/v1/faults"


@pytest.mark.parametrize(
    ("code", "reason", "after"), [(429, "TooManyRequests", "1"), (500, "InternalError", None), (503, "ServiceUnavailable", "7")]
)
async def test_a_client_is_refused_and_another_is_not(tmp_path, code, reason, after):
    interference = Interference(Random(1))
    async with ApiServer.running(tmp_path, interference=interference) as api, api.session() as http, api.session("node:minion-1") as node:
        interference.put(ApiFault("one", ADMIN, code=code, retry_after_s=int(after or 0)))
        async with http.get(PODS) as answer:
            assert answer.status == code and answer.headers.get("Retry-After") == after
            body = await answer.json()
            assert body["reason"] == reason and "(fault one)" in body["message"]
        async with node.get(f"{PODS}?fieldSelector=spec.nodeName%3Dminion-1") as answer:
            assert answer.status == 200
        for path in (FAULTS, "/labctl/v1/health"):
            async with http.get(path) as answer:
                assert answer.status in (200, 404), "404: this server has no extensions"
        interference.remove("one")
        async with http.get(PODS) as answer:
            assert answer.status == 200
        assert not interference


async def test_a_client_waits(tmp_path):
    interference = Interference(Random(1))
    async with ApiServer.running(tmp_path, interference=interference) as api, api.session() as http:
        interference.put(ApiFault("one", ADMIN, delay_s=0.2))
        began = time.monotonic()
        async with http.get(PODS) as answer:
            assert answer.status == 200
        assert 0.2 <= time.monotonic() - began < 1


def test_a_share_of_the_requests_is_struck():
    async def story():
        clock = VirtualClock()
        interference = Interference(Random(1))
        interference.put(ApiFault("slow", "u", share=0.5, delay_s=1.0))
        interference.put(ApiFault("no", "u", share=0.25, code=503))
        refused, began = 0, clock.now()
        for _ in range(2000):
            try:
                await interference.meet("u", PODS, parse(PODS))
            except ApiError:
                refused += 1
        assert 440 < refused < 560
        assert 900 < clock.now() - began < 1100
        await interference.meet("u", FAULTS, parse(FAULTS))
        await interference.meet("u", "/labctl/v1/faults", None)
        assert clock.now() - began < 1100

    run(story())
