"""All controllers beside objects that are valid and odd: none of them stumbles, and the next object is served as ever."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from random import Random
from typing import Any

import pytest

from labctl.errors import ApiError
from labctl.resources.registry import builtin_registry
from labctl.resources.service import User, WriteOptions
from tests.inprocess import ApiServer
from tests.resources.kinds.bodies import DROPPED, ODD, Place, bodies, changed, places

PERSON = WriteOptions(user=User("labctl-admin", ("system:masters",)))
OBJECTS = 1_500
SOON_S = 60.0
LIMITS = ("ResourceQuota", "LimitRange")  # they would refuse most others


async def test_no_controller_stumbles(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng, taken = Random(11), 0
    kinds = {(kind.api_version, kind.kind): kind for kind in builtin_registry().all_served() if kind.persisted}
    async with ApiServer.running(tmp_path, controllers=True) as api:
        for number in range(OBJECTS):
            named = rng.choice(sorted(kinds))
            kind, body = kinds[named], bodies()[named]
            for _ in range(rng.choice((1, 1, 2))):
                place = rng.choice(list(places(body)))
                body = changed(body, place, rng.choice((DROPPED, *of_its_type(body, place))))
            if isinstance(body.get("metadata"), dict) and body["metadata"].get("name") == "x":
                body = body | {"metadata": {**body["metadata"], "name": f"x{number}"}}
            space = "" if not kind.namespaced else "kube-node-lease" if kind.kind in LIMITS else "default"
            try:
                taken += (await api.resources.create(kind, space, json.dumps(body).encode(), PERSON)).created
            except ApiError as error:
                assert error.code < 500, body
            await asyncio.sleep(0)
        assert taken > OBJECTS / 5, "many are taken, or this shows nothing"
        await served(api)
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def of_its_type(body: Any, place: Place) -> list[Any]:
    """What is odd and has the type of what stands at the place: others would not even be read."""
    for step in place:
        body = body[step]
    return [odd for odd in ODD if odd != DROPPED and type(odd) is type(body)]


async def served(api: ApiServer) -> None:
    """Until a Deployment that came after them all has its ReplicaSet."""
    template = {"metadata": {"labels": {"app": "last"}}, "spec": {"containers": [{"name": "a", "image": "nginx"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "last"}}, "template": template}
    sets = api.resources.registry["replicasets.apps"]
    await api.resources.create(
        api.resources.registry["deployments.apps"], "kube-system", {"metadata": {"name": "last"}, "spec": spec}, PERSON
    )
    async with asyncio.timeout(SOON_S):
        while not api.resources.list(sets, "kube-system").entries:
            await asyncio.sleep(0.01)
