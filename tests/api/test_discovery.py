"""Discovery and OpenAPI: what clients learn before they do anything."""

from __future__ import annotations

import re
from typing import Any

import aiohttp
import pytest

from labctl.resources.registry import builtin_registry
from tests.inprocess import ApiServer

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"

GROUPS = sorted({kind.group for kind in builtin_registry().all_served() if kind.group})


async def fetch(http: aiohttp.ClientSession, path: str, accept: str = "application/json") -> tuple[str, Any]:
    async with http.get(path, headers={"Accept": accept}) as answered:
        assert answered.status == 200, (path, answered.status)
        return answered.headers["Content-Type"], await answered.json(content_type=None)


async def test_every_kind_is_listed_where_it_is_served(api: ApiServer) -> None:
    async with api.session() as http:
        for kind in builtin_registry():
            root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
            _, document = await fetch(http, root)
            (entry,) = (r for r in document["resources"] if r["name"] == kind.plural)
            assert (entry["kind"], entry["namespaced"]) == (kind.kind, kind.namespaced)
            names = {r["name"] for r in document["resources"]}
            assert {f"{kind.plural}/{s.name}" for s in kind.subresources} <= names
            if "list" not in kind.verbs:
                continue
            _, listed = await fetch(http, f"{root}/{kind.plural}")
            assert listed["kind"] == f"{kind.kind}List"


async def test_the_documents_one_by_one(api: ApiServer) -> None:
    async with api.session() as http:
        assert (await fetch(http, "/api"))[1]["versions"] == ["v1"]
        groups = {g["name"] for g in (await fetch(http, "/apis"))[1]["groups"]}
        assert groups == set(GROUPS)
        assert (await fetch(http, "/apis/discovery.k8s.io"))[1]["preferredVersion"]["version"] == "v1"
        assert "/api/v1" in (await fetch(http, "/"))[1]["paths"]


@pytest.mark.parametrize(
    ("path", "resource", "hashed"), [("/api/v1", "pods", "xPOwRZ+Yhw8="), ("/apis/apps/v1", "deployments", "8aSe+NMegvE=")]
)
async def test_the_version_that_objects_are_stored_in_is_hashed_as_kubernetes_does(
    api: ApiServer, path: str, resource: str, hashed: str
) -> None:
    async with api.session() as http:
        _, document = await fetch(http, path)
    assert [each["storageVersionHash"] for each in document["resources"] if each["name"] == resource] == [hashed]


@pytest.mark.parametrize(("path", "groups"), [("/api", [None]), ("/apis", GROUPS)])
async def test_aggregated_as_kubectl_asks(api: ApiServer, path: str, groups: list[str | None]) -> None:
    async with api.session() as http:
        content_type, document = await fetch(http, path, AGGREGATED)
    assert content_type == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    assert (document["kind"], document["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
    assert [item["metadata"].get("name") for item in document["items"]] == groups
    resources = [r for item in document["items"] for v in item["versions"] for r in v["resources"]]
    assert all(r["scope"] in ("Namespaced", "Cluster") and r["verbs"] for r in resources)


@pytest.mark.parametrize("path", ["/api", "/apis"])
async def test_who_has_discovery_already_is_told_so_until_a_kind_comes(api: ApiServer, path: str) -> None:
    async with api.session() as http:
        async with http.get(path, headers={"Accept": AGGREGATED}) as answered:
            tag = answered.headers["ETag"]
            assert answered.headers["Vary"] == "Accept" and re.fullmatch(r'"[0-9A-F]{64}"', tag)
        asked = {"Accept": AGGREGATED, "If-None-Match": tag}
        async with http.get(path, headers=asked) as answered:
            assert (answered.status, answered.headers["ETag"], await answered.read()) == (304, tag, b"")
        async with http.get(path, headers=asked | {"If-None-Match": '"other"'}) as answered:
            assert answered.status == 200 and (await answered.json(content_type=None))["kind"] == "APIGroupDiscoveryList"


async def test_short_names_come_from_the_server(api: ApiServer) -> None:
    async with api.session() as http:
        _, document = await fetch(http, "/api/v1")
    services = next(r for r in document["resources"] if r["name"] == "services")
    assert services["shortNames"] == ["svc", "se"]


async def test_openapi_v3_is_indexed_by_hash_and_kept(api: ApiServer) -> None:
    async with api.session() as http:
        _, index = await fetch(http, "/openapi/v3")
        url = index["paths"]["api/v1"]["serverRelativeURL"]
        async with http.get(url) as answered:
            document, tag = await answered.json(), answered.headers["ETag"]
            assert "Expires" in answered.headers
        assert document["openapi"].startswith("3.")
        assert tag.strip('"') in url
        async with http.get(url, headers={"If-None-Match": tag}) as answered:
            assert (answered.status, await answered.read()) == (304, b"")
        _, v2 = await fetch(http, "/openapi/v2")
        assert v2["swagger"] == "2.0"


@pytest.mark.parametrize("path", ["/api/v1/namespaces/default", "/api/v1/nosuch", "/api", "/apis/apps/v1", "/", "/api/v1/pods"])
async def test_compact_json_ends_with_a_newline_and_indented_json_with_none(api: ApiServer, path: str) -> None:
    async with api.session() as http:
        async with http.get(path) as compact, http.get(f"{path}?pretty=1") as indented:
            body = await compact.read()
            assert body.endswith(b"}\n") and body.count(b"\n") == 1
            shown = await indented.read()
            assert shown.endswith(b"\n}") and b"\n  " in shown


@pytest.mark.parametrize("path", ["/openapi/v2", "/openapi/v3"])
async def test_openapi_documents_are_sent_as_they_are(api: ApiServer, path: str) -> None:
    async with api.session() as http, http.get(f"{path}?pretty=1") as answered:
        assert b"\n" not in await answered.read()


async def test_the_version_says_which_commit_this_is(api: ApiServer) -> None:
    async with api.session() as http, http.get("/version") as answered:
        said = await answered.json()
    assert said["gitTreeState"] in ("clean", "dirty", "archive")
    assert re.fullmatch(r"[0-9a-f]{40}", said["gitCommit"]) or said["gitTreeState"] == "archive"
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", said["buildDate"])
