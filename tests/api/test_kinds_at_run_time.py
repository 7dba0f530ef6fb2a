"""What clients see when kinds come and go while the server runs: discovery, OpenAPI, Tables, the versions of an object."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from labctl.resources.generic import GenericObject
from labctl.resources.kind import Kind
from labctl.resources.kinds import own
from labctl.resources.kinds.own import INT32
from labctl.resources.verbs.versions import NoneConversion
from tests.inprocess import ApiServer

GROUP = "example.com"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
AGGREGATED = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}


def cats(name: str = "Cat", version: str = "v1", storage: Kind | None = None) -> Kind:
    definitions = own.top_level(f"com.example.{version}.{name}", GROUP, version, spec=own.struct(lives=INT32))
    plural, conversion = f"{name.lower()}s", NoneConversion()
    return Kind(
        GROUP, version, name, plural, name.lower(), True, GenericObject, definitions=definitions, storage=storage, conversion=conversion
    )


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path) as running:
        yield running


async def read(http: aiohttp.ClientSession, path: str, **headers: str) -> Any:
    async with http.get(path, headers=headers) as answer:
        return await answer.json() if answer.status == 200 else answer.status


async def test_discovery_and_openapi_follow(api: ApiServer) -> None:
    registry = api.resources.registry
    async with api.session() as http:
        before = (await read(http, "/openapi/v3"))["paths"]
        v1 = cats()
        registry.add(v1, cats(version="v2beta1", storage=v1))
        assert (await read(http, f"/apis/{GROUP}"))["preferredVersion"]["version"] == "v1"
        (resource,) = (await read(http, f"/apis/{GROUP}/v2beta1"))["resources"]
        assert resource["name"] == "cats"
        found = [g for g in (await read(http, "/apis", **AGGREGATED))["items"] if g["metadata"]["name"] == GROUP]
        assert [version["version"] for version in found[0]["versions"]] == ["v1", "v2beta1"]
        after = (await read(http, "/openapi/v3"))["paths"]
        assert after.keys() - before.keys() == {f"apis/{GROUP}/v1", f"apis/{GROUP}/v2beta1"}
        assert {path: after[path] for path in before} == before, "what clients have of other groups stays good"
        assert "com.example.v1.Cat" in (await read(http, f"/openapi/v3/apis/{GROUP}/v1"))["components"]["schemas"]
        assert "com.example.v1.Cat" in (await read(http, "/openapi/v2"))["definitions"]
        registry.remove("cats.example.com")
        assert await read(http, f"/apis/{GROUP}") == await read(http, f"/apis/{GROUP}/v1/cats") == 404
        assert (await read(http, "/openapi/v3"))["paths"] == before


async def test_a_changed_schema_is_published(api: ApiServer) -> None:
    async with api.session() as http:
        api.resources.registry.add(cats())
        assert "lives" in str(await read(http, f"/openapi/v3/apis/{GROUP}/v1"))
        api.resources.registry.replace(replace(cats(), definitions=own.top_level("com.example.v1.Cat", GROUP, "v1", mood=INT32)))
        document = str(await read(http, f"/openapi/v3/apis/{GROUP}/v1"))
        assert "mood" in document and "lives" not in document


async def test_objects_are_served_in_each_version(api: ApiServer) -> None:
    v1 = cats()
    api.resources.registry.add(v1, cats(version="v2beta1", storage=v1))
    base = f"/apis/{GROUP}/v2beta1/namespaces/default/cats"
    async with api.session() as http:
        body = {"apiVersion": f"{GROUP}/v2beta1", "kind": "Cat", "metadata": {"name": "tom"}, "spec": {"lives": 9}}
        async with http.post(base, json=body) as answer:
            assert answer.status == 201 and (await answer.json())["apiVersion"] == f"{GROUP}/v2beta1"
        listed = await read(http, base)
        assert listed["apiVersion"] == listed["items"][0]["apiVersion"] == f"{GROUP}/v2beta1"
        assert (await read(http, f"/apis/{GROUP}/v1/namespaces/default/cats/tom"))["apiVersion"] == f"{GROUP}/v1"
        table = await read(http, base, **TABLE)
        assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Age"] and table["rows"][0]["cells"][0] == "tom"
        async with http.get(base, params={"watch": "1", "timeoutSeconds": "1"}) as answer:
            assert f'"apiVersion":"{GROUP}/v2beta1"' in (await answer.content.readline()).decode()


async def test_two_hundred_kinds_stay_quick(api: ApiServer) -> None:
    async with api.session() as http:
        for number in range(200):
            api.resources.registry.add(cats(f"Cat{number}"))
        await read(http, "/openapi/v3")
        await read(http, "/openapi/v2")
        began = time.perf_counter()
        kind = cats("Tiger")
        api.resources.registry.add(replace(kind, group="big.example.com"))
        added_s = time.perf_counter() - began
        await read(http, "/openapi/v3")
        published_s = time.perf_counter() - began
        began = time.perf_counter()
        await read(http, "/apis", **AGGREGATED)
        discovered_s = time.perf_counter() - began
        print(f"added {added_s * 1e3:.1f} ms, published {published_s * 1e3:.1f} ms, discovery {discovered_s * 1e3:.1f} ms")
        assert added_s < 0.5 and published_s < 2 and discovered_s < 1, "ten times what a quiet machine takes"
