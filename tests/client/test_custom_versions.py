"""What one version of a custom kind does not know, with the real kubectl: it is not shown there, and what the stored version does not know is not stored."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.test_kubectl import ok
from tests.inprocess import ApiServer

NAME = "teas.example.com"


def definition(**properties: dict[str, Any]) -> dict[str, Any]:
    """`properties` are those of each version's spec; the last version is stored."""
    versions = [
        {
            "name": name,
            "served": True,
            "storage": name == list(properties)[-1],
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": known}}}},
        }
        for name, known in properties.items()
    ]
    names = {"plural": "teas", "singular": "tea", "kind": "Tea", "listKind": "TeaList"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": versions}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": NAME}, "spec": spec}


TEXT = {"type": "string"}
OLD = {"leaf": TEXT, "sugar": TEXT}
NEW = {"leaf": TEXT, "milk": TEXT, "water": {"type": "string", "default": "hot"}}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, controllers=True) as running:
        yield running


async def _define(api: ApiServer, **properties: dict[str, Any]) -> None:
    await ok(api, "apply", "--server-side", "-f", "-", stdin=definition(**properties))
    await ok(api, "wait", "--for=condition=Established", f"crd/{NAME}", "--timeout=10s")
    deadline = time.monotonic() + 10
    while await _published(api) != properties["v1"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def _published(api: ApiServer) -> Any:
    """Returns what the API knows of v1's spec at this moment: a definition that is changed is in force a moment later."""
    document = json.loads(await ok(api, "get", "--raw", "/openapi/v3/apis/example.com/v1"))
    return document["components"]["schemas"]["com.example.v1.Tea"]["properties"]["spec"]["properties"]


def _tea(version: str, **spec: str) -> str:
    return json.dumps({"apiVersion": f"example.com/{version}", "kind": "Tea", "metadata": {"name": "green"}, "spec": spec})


async def _spec(api: ApiServer, version: str) -> Any:
    return json.loads(await ok(api, "get", f"teas.{version}.example.com", "green", "-o", "jsonpath={.spec}"))


async def test_a_version_shows_only_what_it_knows(api: ApiServer) -> None:
    await _define(api, v1alpha1=OLD, v1=NEW)
    await ok(api, "create", "-f", "-", stdin=_tea("v1", leaf="long", milk="none"))
    assert await _spec(api, "v1") == {"leaf": "long", "milk": "none", "water": "hot"}
    assert await _spec(api, "v1alpha1") == {"leaf": "long"}
    listed = json.loads(await ok(api, "get", "--raw", "/apis/example.com/v1alpha1/namespaces/default/teas"))
    assert [each["spec"] for each in listed["items"]] == [{"leaf": "long"}]


async def test_a_patch_in_another_version_meets_no_unknown_field(api: ApiServer) -> None:
    await _define(api, v1alpha1=OLD, v1=NEW)
    await ok(api, "create", "-f", "-", stdin=_tea("v1", leaf="long"))
    before = await ok(api, "get", "teas.v1.example.com", "green", "-o", "jsonpath={.metadata.resourceVersion}")
    await ok(api, "apply", "-f", "-", stdin=_tea("v1alpha1", leaf="short"))  # kubectl asks for strict validation of its patch
    assert await _spec(api, "v1") == {"leaf": "short", "water": "hot"}
    assert before != await ok(api, "get", "teas.v1.example.com", "green", "-o", "jsonpath={.metadata.resourceVersion}")


async def test_what_the_stored_version_does_not_know_is_not_stored(api: ApiServer) -> None:
    await _define(api, v1alpha1=OLD, v1=NEW)
    made = json.loads(await ok(api, "create", "-o", "json", "-f", "-", stdin=_tea("v1alpha1", leaf="long", sugar="two")))
    assert made["spec"] == {"leaf": "long"}, "who makes it is told at once"
    assert await _spec(api, "v1alpha1") == {"leaf": "long"}


async def test_what_a_schema_no_longer_knows_is_no_longer_shown(api: ApiServer) -> None:
    await _define(api, v1=OLD)
    await ok(api, "create", "-f", "-", stdin=_tea("v1", leaf="long", sugar="two"))
    await _define(api, v1={"leaf": TEXT})
    assert await _spec(api, "v1") == {"leaf": "long"}
    revision = "jsonpath={.metadata.resourceVersion}"
    await ok(api, "label", "teas", "green", "served=yes")
    before = await ok(api, "get", "teas", "green", "-o", revision)
    await ok(api, "label", "teas", "green", "served=yes")
    assert await ok(api, "get", "teas", "green", "-o", revision) == before, "it was stored anew, once"


async def test_an_object_older_than_its_schema_that_lacks_nothing_is_not_written_without_a_change(api: ApiServer) -> None:
    await _define(api, v1=OLD)
    await ok(api, "create", "-f", "-", stdin=_tea("v1", leaf="long"))
    await _define(api, v1={"leaf": TEXT, "sugar": TEXT, "milk": TEXT})
    revision = "jsonpath={.metadata.resourceVersion}"
    before = await ok(api, "get", "teas", "green", "-o", revision)
    await ok(api, "patch", "teas", "green", "--type=merge", "-p", '{"spec":{"leaf":"long"}}')
    assert await ok(api, "get", "teas", "green", "-o", revision) == before
