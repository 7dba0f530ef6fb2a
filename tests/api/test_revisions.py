"""What `resourceVersion` means to get, list, watch and deletecollection, as the tables of Kubernetes' page on API concepts have it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.api.test_lists import MAPS, config_map
from tests.inprocess import ApiServer

SCALE = "/apis/apps/v1/namespaces/default/deployments/d/scale"
SERVICE = "/apis/apiregistration.k8s.io/v1/apiservices/v1.apps"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path) as running:
        yield running


@pytest.fixture
async def http(api: ApiServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with api.session() as session:
        for name in ("a", "b", "c"):
            async with session.post(MAPS, json=config_map(name)) as answer:
                assert answer.status == 201
        labels = {"app": "d"}
        pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        spec = {"selector": {"matchLabels": labels}, "template": pod}
        async with session.post(SCALE.removesuffix("/d/scale"), json={"metadata": {"name": "d"}, "spec": spec}) as answer:
            assert answer.status == 201
        yield session


async def said(http: aiohttp.ClientSession, path: str, code: int = 200, method: str = "GET") -> dict[str, Any]:
    async with http.request(method, path) as answer:
        found: dict[str, Any] = await answer.json()
        assert answer.status == code, found
    return found


@pytest.mark.parametrize("path", [f"{MAPS}/a", SCALE, SCALE.removesuffix("/scale") + "/status", SERVICE])
async def test_an_object_is_not_older_than_what_the_client_knows(api: ApiServer, http: aiohttp.ClientSession, path: str) -> None:
    for known in ("", "0", "1", str(api.resources.store.revision)):
        for _ in range(3):  # a request that is asked again is answered in another way
            await said(http, f"{path}?resourceVersion={known}")
    ahead = api.resources.store.revision + 1
    for _ in range(2):
        error = await said(http, f"{path}?resourceVersion={ahead}", 504)
        assert error["reason"] == "Timeout" and error["message"] == f"Too large resource version: {ahead}, current: {ahead - 1}"
        assert error["details"] == {
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}], "retryAfterSeconds": 1,
        }  # fmt: skip
    for wrong in ("new", "-1", "1.5", "9" * 20):
        assert (await said(http, f"{path}?resourceVersion={wrong}", 400))["reason"] == "BadRequest"


async def test_a_revision_from_the_future_is_told_before_whether_the_object_is_there(http: aiohttp.ClientSession) -> None:
    await said(http, f"{MAPS}/nothing?resourceVersion=1", 404)
    await said(http, f"{MAPS}/nothing?resourceVersion=999999", 504)


async def test_a_read_that_waited_for_its_revision_is_answered_once_it_is_there(api: ApiServer, http: aiohttp.ClientSession) -> None:
    path = f"{MAPS}/a?resourceVersion={api.resources.store.revision + 1}"
    await said(http, path, 504)
    await said(http, f"{MAPS}/b", method="DELETE")
    assert (await said(http, path))["metadata"]["name"] == "a"


def names(listed: dict[str, Any]) -> list[str]:
    return [each["metadata"]["name"] for each in listed["items"]]


async def test_lists_are_of_the_revision_that_their_options_mean(api: ApiServer, http: aiohttp.ClientSession) -> None:
    then = api.resources.store.revision
    await said(http, f"{MAPS}/b", method="DELETE")
    now = api.resources.store.revision
    for options, revision, found in (
        ("", now, ["a", "c"]),
        ("resourceVersion=0", now, ["a", "c"]),
        (f"resourceVersion={then}", now, ["a", "c"]),
        ("limit=2", now, ["a", "c"]),
        ("limit=2&resourceVersion=0", now, ["a", "c"]),
        (f"limit=2&resourceVersion={then}", then, ["a", "b"]),
        (f"limit=-2&resourceVersion={then}", now, ["a", "c"]),
        (f"resourceVersionMatch=Exact&resourceVersion={then}", then, ["a", "b", "c"]),
        (f"resourceVersionMatch=Exact&resourceVersion={then}&limit=2", then, ["a", "b"]),
        ("resourceVersionMatch=NotOlderThan&resourceVersion=0", now, ["a", "c"]),
        (f"resourceVersionMatch=NotOlderThan&resourceVersion={then}", now, ["a", "c"]),
        (f"resourceVersionMatch=NotOlderThan&resourceVersion={then}&limit=2", now, ["a", "c"]),
    ):
        listed = await said(http, f"{MAPS}?{options}")
        assert (names(listed), listed["metadata"]["resourceVersion"]) == (found, str(revision)), options
    token = (await said(http, f"{MAPS}?limit=2&resourceVersion={then}"))["metadata"]["continue"]
    for more in ("", "&resourceVersion=0"):
        assert names(await said(http, f"{MAPS}?limit=2&continue={token}{more}")) == ["c"]
    refused = await said(http, f"{MAPS}?limit=2&continue={token}&resourceVersion={then}", 400)
    assert refused["message"] == "specifying resource version is not allowed when using continue"


async def test_what_is_no_longer_kept_is_gone_and_the_answer_says_how_a_list_goes_on(api: ApiServer, http: aiohttp.ClientSession) -> None:
    then = api.resources.store.revision
    token = (await said(http, f"{MAPS}?limit=1"))["metadata"]["continue"]
    await said(http, f"{MAPS}/c", method="DELETE")
    await api.resources.store.compact(api.resources.store.revision)
    gone = await said(http, f"{MAPS}?resourceVersionMatch=Exact&resourceVersion={then}", 410)
    assert (gone["reason"], gone["message"]) == ("Expired", "The resourceVersion for the provided list is too old.")
    assert gone["metadata"] == {} and "details" not in gone
    gone = await said(http, f"{MAPS}?limit=1&continue={token}", 410)
    assert "details" not in gone and names(await said(http, f"{MAPS}?continue={gone['metadata']['continue']}")) == ["b"]


async def test_a_collection_is_deleted_as_far_as_its_list_goes(http: aiohttp.ClientSession) -> None:
    first = await said(http, f"{MAPS}?limit=1", method="DELETE")
    assert names(first) == ["a"]
    assert names(await said(http, f"{MAPS}?limit=1&continue={first['metadata']['continue']}", method="DELETE")) == ["b"]
    await said(http, f"{MAPS}?resourceVersion=999999", 504, method="DELETE")
    await said(http, f"{MAPS}?resourceVersionMatch=Exact", 422, method="DELETE")
    assert names(await said(http, MAPS)) == ["c"]
    assert names(await said(http, MAPS, method="DELETE")) == ["c"]
