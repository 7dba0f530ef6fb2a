"""A pod's tokens: asked for once, renewed before they end, asked for again after a refusal."""

from __future__ import annotations

import asyncio

import pytest

from labctl.agent.client import Refused
from labctl.agent.times import rfc3339
from labctl.agent.tokens import Tokens

SOURCE = {"path": "token", "expirationSeconds": 1000}
VOLUME = {"name": "v", "projected": {"sources": [{"serviceAccountToken": SOURCE}, {"configMap": {"name": "x"}}]}}
POD = {"metadata": {"name": "p", "namespace": "default", "uid": "u1"}, "spec": {"serviceAccountName": "robot", "volumes": [VOLUME]}}


class Api:
    """Answers TokenRequests by a clock that the test moves."""

    def __init__(self):
        self.asked = []
        self.now_s = 1_000_000.0
        self.refuses = False

    def wall(self):
        return self.now_s

    async def create(self, path, value):
        self.asked.append((path, value["spec"]))
        await asyncio.sleep(0)
        if self.refuses:
            raise Refused(403, "Forbidden", "no")
        lives_s = value["spec"]["expirationSeconds"]
        status = {"token": f"token {len(self.asked)}", "expirationTimestamp": rfc3339(self.now_s + lives_s)}
        return {"metadata": {"creationTimestamp": rfc3339(self.now_s)}, "status": status}


@pytest.fixture
def api():
    return Api()


async def test_it_is_asked_once_and_bound_to_its_pod(api):
    tokens = Tokens(api, api.wall)
    tokens.ask(POD)
    assert await asyncio.gather(tokens.token(POD, SOURCE), tokens.token(POD, SOURCE)) == ["token 1", "token 1"]
    [(path, spec)] = api.asked
    assert path == "/api/v1/namespaces/default/serviceaccounts/robot/token"
    assert spec["boundObjectRef"] == {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u1"} and spec["expirationSeconds"] == 1000


async def test_it_is_renewed_at_four_fifths_of_its_life(api):
    tokens = Tokens(api, api.wall)
    await tokens.token(POD, SOURCE)
    api.now_s += 799
    assert await tokens.token(POD, SOURCE) == "token 1"
    api.now_s += 2
    assert await tokens.token(POD, SOURCE) == "token 2"
    assert await tokens.token(POD, SOURCE) == "token 2"


async def test_a_long_one_is_renewed_each_day(api):
    tokens = Tokens(api, api.wall)
    long = {**SOURCE, "expirationSeconds": 365 * 86_400}
    await tokens.token(POD, long)
    api.now_s += 86_399
    assert await tokens.token(POD, long) == "token 1"
    api.now_s += 2
    assert await tokens.token(POD, long) == "token 2"


async def test_a_wrong_clock_changes_nothing(api):
    """The master's stamps say how long a token lives; this machine's clock is ten hours behind."""
    tokens = Tokens(api, lambda: api.now_s - 36_000)
    await tokens.token(POD, SOURCE)
    api.now_s += 801
    assert await tokens.token(POD, SOURCE) == "token 2"


async def test_after_a_refusal_it_is_asked_again(api):
    tokens = Tokens(api, api.wall)
    api.refuses = True
    tokens.ask(POD)
    with pytest.raises(Refused):
        await tokens.token(POD, SOURCE)
    api.refuses = False
    assert await tokens.token(POD, SOURCE) == "token 2"


async def test_nothing_is_kept_of_a_pod_that_is_gone(api):
    tokens = Tokens(api, api.wall)
    await tokens.token(POD, SOURCE)
    tokens.forget("u1")
    assert not tokens._asked and not tokens._due_s
