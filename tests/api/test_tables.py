"""Tables and PartialObjectMetadata: what kubectl get, and metadata-only clients, ask for."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from tests.inprocess import ApiServer

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
MAPS = "/api/v1/namespaces/default/configmaps"


async def fetch(http: aiohttp.ClientSession, path: str, accept: str) -> tuple[int, Any]:
    async with http.get(path, headers={"Accept": accept}) as answered:
        return answered.status, await answered.json(content_type=None)


async def make(http: aiohttp.ClientSession, name: str) -> None:
    async with http.post(MAPS, json={"metadata": {"name": name}, "data": {"k": "v"}}) as answered:
        assert answered.status == 201


async def test_a_list_as_a_table(api: ApiServer) -> None:
    async with api.session() as http:
        await make(http, "a")
        await make(http, "b")
        _, table = await fetch(http, MAPS, TABLE)
        _, listed = await fetch(http, MAPS, "application/json")
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert table["metadata"]["resourceVersion"] == listed["metadata"]["resourceVersion"]
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert [row["cells"][:2] for row in table["rows"]] == [["a", 1], ["b", 1]]
    shown = table["rows"][0]["object"]
    assert (shown["kind"], shown["metadata"]) == ("PartialObjectMetadata", listed["items"][0]["metadata"])
    assert "data" not in shown


async def test_what_a_row_carries(api: ApiServer) -> None:
    async with api.session() as http:
        await make(http, "a")
        _, whole = await fetch(http, f"{MAPS}/a?includeObject=Object", TABLE)
        _, none = await fetch(http, f"{MAPS}/a?includeObject=None", TABLE)
        code, status = await fetch(http, f"{MAPS}/a?includeObject=Some", TABLE)
    assert whole["rows"][0]["object"]["data"] == {"k": "v"}
    assert none["rows"][0]["object"] is None
    assert code == 400 and "includeObject" in status["message"]


async def test_metadata_alone(api: ApiServer) -> None:
    async with api.session() as http:
        await make(http, "a")
        _, one = await fetch(http, f"{MAPS}/a", PARTIAL)
        _, many = await fetch(http, MAPS, PARTIAL_LIST)
    assert one["kind"] == "PartialObjectMetadata" and set(one) == {"kind", "apiVersion", "metadata"}
    assert many["kind"] == "PartialObjectMetadataList"
    assert many["items"][0] == one


async def test_a_watch_of_rows_names_the_columns_once(api: ApiServer) -> None:
    async with api.session() as http:
        await make(http, "a")
        await make(http, "b")
        async with http.get(f"{MAPS}?watch=1", headers={"Accept": TABLE}) as answered:
            events = [json.loads(await answered.content.readline()) for _ in range(2)]
    assert [e["type"] for e in events] == ["ADDED", "ADDED"]
    assert [e["object"]["kind"] for e in events] == ["Table", "Table"]
    assert [c["name"] for c in events[0]["object"]["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert not events[1]["object"]["columnDefinitions"]
    assert events[1]["object"]["rows"][0]["cells"][0] == "b"


async def test_a_shape_nobody_knows_falls_through_to_the_next(api: ApiServer) -> None:
    async with api.session() as http:
        code, _ = await fetch(http, MAPS, "application/json;as=Chair;v=v1;g=meta.k8s.io")
        assert code == 406
        _, listed = await fetch(http, MAPS, "application/json;as=Table;v=v9;g=meta.k8s.io,application/json")
        assert listed["kind"] == "ConfigMapList"


async def test_the_older_version_of_each_shape_is_answered_too(api: ApiServer) -> None:
    """Older programs ask for it alone."""
    beta = "meta.k8s.io/v1beta1"
    async with api.session() as http:
        await make(http, "a")
        _, table = await fetch(http, MAPS, "application/json;as=Table;v=v1beta1;g=meta.k8s.io")
        _, one = await fetch(http, f"{MAPS}/a", PARTIAL.replace("v=v1", "v=v1beta1"))
        _, many = await fetch(http, MAPS, PARTIAL_LIST.replace("v=v1", "v=v1beta1"))
        async with http.get(f"{MAPS}?watch=1", headers={"Accept": TABLE.replace("v=v1", "v=v1beta1")}) as answered:
            event = json.loads(await answered.content.readline())
            assert answered.headers["Content-Type"] == "application/json;as=Table;g=meta.k8s.io;v=v1beta1"
    assert (table["apiVersion"], table["rows"][0]["object"]["apiVersion"], event["object"]["apiVersion"]) == (beta, beta, beta)
    assert (one["apiVersion"], many["apiVersion"], many["items"][0]["apiVersion"]) == (beta, beta, beta)


async def test_a_scale_has_columns_of_its_own(api: ApiServer) -> None:
    """As `kubectl get deployment web --subresource=scale` shows it."""
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    web = {"metadata": {"name": "web"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": template}}
    path = "/apis/apps/v1/namespaces/default/deployments"
    async with api.session() as http:
        async with http.post(path, json=web) as made:
            assert made.status == 201
        _, table = await fetch(http, f"{path}/web/scale", TABLE)
        _, partial = await fetch(http, f"{path}/web/scale", PARTIAL)
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Desired", "Available", "Age"]
    assert table["rows"][0]["cells"][:3] == ["web", 3, 0]
    assert partial["metadata"]["name"] == "web" and "spec" not in partial
