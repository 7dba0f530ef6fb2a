"""A conversion webhook that gives fields other names: what is selected, watched and owned is told in the version of each request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from labctl.resources.verbs.patch import MERGE
from tests.client.hooks import Hooks
from tests.client.test_conversion import GROUP, converted, gadget, gadgets
from tests.client.test_kubectl import ok
from tests.inprocess import ApiServer

V1, ALPHA = (f"/apis/{GROUP}/{version}/namespaces/default/gadgets" for version in ("v1", "v1alpha1"))


@pytest.fixture
async def api(tmp_path: Path, hooks: Hooks) -> AsyncIterator[ApiServer]:
    """Objects are stored as v1alpha1, where `width` is `size`; by a label of v1, the webhook says which are wide."""

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        response = converted(request)
        for obj in response["convertedObjects"]:
            labels = {name: text for name, text in obj["metadata"].get("labels", {}).items() if name != "wide"}
            wide = {"wide": str(obj["spec"].get("width", 0) > 3).lower()} if obj["apiVersion"].endswith("/v1") else {}
            obj["metadata"]["labels"] = {**labels, **wide}
        return response

    hooks.answers["/convert"] = answer
    whole = gadgets(hooks)
    for version in whole["spec"]["versions"]:
        version["selectableFields"] = [{"jsonPath": ".spec.width" if version["name"] == "v1" else ".spec.size"}]
    async with ApiServer.running(tmp_path, controllers=True) as running:
        await ok(running, "create", "-f", "-", stdin=whole)
        await ok(running, "wait", "--for=condition=Established", f"crd/gadgets.{GROUP}", "--timeout=5s")
        yield running


def made(name: str, width: int) -> dict[str, Any]:
    return {**gadget(name, "v1"), "spec": {"width": width}}


async def filled(http: aiohttp.ClientSession, *widths: int) -> None:
    for number, width in enumerate(widths):
        async with http.post(V1, json=made(f"g{number}", width)) as answer:
            assert answer.status == 201


async def names(http: aiohttp.ClientSession, path: str) -> list[str]:
    async with http.get(path) as answer:
        assert answer.status == 200, await answer.text()
        return [each["metadata"]["name"] for each in (await answer.json())["items"]]


async def test_objects_are_selected_by_the_fields_and_labels_of_the_version_that_is_asked(api: ApiServer) -> None:
    async with api.session() as http:
        await filled(http, 3, 5, 3, 5, 3)
        assert await names(http, f"{V1}?fieldSelector=spec.width=3") == ["g0", "g2", "g4"]
        assert await names(http, f"{V1}?fieldSelector=spec.width!=3,metadata.name=g1") == ["g1"]
        assert await names(http, f"{ALPHA}?fieldSelector=spec.size=5") == ["g1", "g3"]
        assert await names(http, f"{V1}?labelSelector=wide%3Dtrue") == ["g1", "g3"] and not await names(http, f"{ALPHA}?labelSelector=wide")
        async with http.get(f"{V1}?fieldSelector=spec.size=3") as answer:
            assert answer.status == 400 and "field label not supported: spec.size" in (await answer.json())["message"]
        found, more = [], ""
        while True:
            async with http.get(f"{V1}?fieldSelector=spec.width=3&limit=2{more}") as answer:
                page = await answer.json()
            found.append([each["spec"] for each in page["items"]])
            if not (token := page["metadata"].get("continue")):
                break
            more = f"&continue={token}"
        assert found == [[{"width": 3}, {"width": 3}], [{"width": 3}]]
        async with http.delete(f"{V1}?fieldSelector=spec.width=5") as answer:
            assert answer.status == 200 and [each["spec"] for each in (await answer.json())["items"]] == [{"width": 5}, {"width": 5}]
        assert await names(http, V1) == ["g0", "g2", "g4"]


async def test_a_watch_of_some_sees_them_come_and_go_in_its_own_version(api: ApiServer) -> None:
    async with api.session() as http, api.session() as watching:
        await filled(http, 3, 5)
        async with watching.get(f"{V1}?watch=1&fieldSelector=spec.width=3") as events:

            async def seen() -> tuple[str, str, dict[str, Any]]:
                event = json.loads(await asyncio.wait_for(events.content.readline(), 10))
                return event["type"], event["object"]["metadata"]["name"], event["object"]["spec"]

            assert await seen() == ("ADDED", "g0", {"width": 3})
            merge = {"Content-Type": "application/merge-patch+json"}
            for name, size in (("g1", 3), ("g0", 4)):
                async with http.patch(f"{ALPHA}/{name}", json={"spec": {"size": size}}, headers=merge) as answer:
                    assert answer.status == 200
            assert await seen() == ("ADDED", "g1", {"width": 3})
            assert await seen() == ("DELETED", "g0", {"width": 3})
            async with http.delete(f"{ALPHA}/g1") as answer:
                assert answer.status == 200
            assert await seen() == ("DELETED", "g1", {"width": 3})


async def test_a_watch_shows_each_of_several_states_of_one_object(api: ApiServer) -> None:
    """Several may come at once, and are then converted together."""
    async with api.session() as http:
        await filled(http, 0)
        start = api.resources.store.revision
        for size in range(1, 6):
            await api.resources.patch(api.resources.registry[f"gadgets.{GROUP}"], "default", "g0", {"spec": {"size": size}}, MERGE)
        async with http.get(f"{V1}?watch=1&resourceVersion={start}") as events:
            found = [json.loads(await asyncio.wait_for(events.content.readline(), 10))["object"]["spec"] for _ in range(5)]
    assert found == [{"width": width} for width in range(1, 6)]
