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


APPLY = {"Content-Type": "application/apply-patch+yaml"}


async def applied(
    http: aiohttp.ClientSession, path: str, manager: str, spec: dict[str, Any], code: int = 200, **query: str
) -> dict[str, Any]:
    version = path.split("/")[3]
    body = {"apiVersion": f"{GROUP}/{version}", "kind": "Gadget", "metadata": {"name": "g"}, "spec": spec}
    params = {"fieldManager": manager, **query}
    async with http.patch(f"{path}/g", data=json.dumps(body), params=params, headers=APPLY) as answer:
        said: dict[str, Any] = await answer.json()
        assert answer.status == code, said
    return said


def owned(obj: dict[str, Any]) -> dict[str, tuple[str, list[str]]]:
    """Returns who owns which fields of the spec, and in which version."""
    found = {}
    for entry in [each for each in obj["metadata"]["managedFields"] if "subresource" not in each]:
        fields = sorted(name.removeprefix("f:") for name in entry["fieldsV1"].get("f:spec", {}) if name != ".")
        found[entry["manager"]] = (entry["apiVersion"].rpartition("/")[2], fields)
    return found


async def test_an_apply_conflicts_with_who_owns_the_field_under_another_name(api: ApiServer) -> None:
    async with api.session() as http:
        await applied(http, ALPHA, "old", {"size": 3, "replicas": 1}, 201)
        same = await applied(http, V1, "new", {"width": 3})
        assert owned(same) == {"old": ("v1alpha1", ["replicas", "size"]), "new": ("v1", ["width"])}, "who says the same is welcome"
        refusal = await applied(http, V1, "new", {"width": 4}, 409)
        assert refusal["message"] == 'Apply failed with 1 conflict: conflict with "old": .spec.size'
        assert refusal["details"]["causes"][0]["field"] == ".spec.size"
        forced = await applied(http, V1, "new", {"width": 4}, force="true")
        assert owned(forced) == {"old": ("v1alpha1", ["replicas"]), "new": ("v1", ["width"])}
        refusal = await applied(http, ALPHA, "old", {"size": 3, "replicas": 1}, 409)
        assert refusal["message"] == 'Apply failed with 1 conflict: conflict with "new": .spec.width'


async def test_what_an_applier_names_no_more_goes_under_any_name(api: ApiServer) -> None:
    async with api.session() as http:
        await applied(http, ALPHA, "me", {"size": 3, "replicas": 1}, 201)
        less = await applied(http, V1, "me", {"replicas": 1})
        assert less["spec"] == {"replicas": 1} and owned(less) == {"me": ("v1", ["replicas"])}
        again = await applied(http, V1, "me", {"replicas": 1})
        assert again["metadata"]["resourceVersion"] == less["metadata"]["resourceVersion"]
        assert (await applied(http, ALPHA, "me", {"size": 4}))["spec"] == {"size": 4}
        await applied(http, ALPHA, "other", {"size": 4})
        kept = await applied(http, V1, "me", {"replicas": 2})
        assert kept["spec"] == {"replicas": 2, "width": 4}, "another one applies it still"
        assert owned(kept) == {"me": ("v1", ["replicas"]), "other": ("v1alpha1", ["size"])}


async def test_a_plain_write_takes_fields_from_who_owns_them_under_another_name(api: ApiServer) -> None:
    merge = {"Content-Type": "application/merge-patch+json"}
    async with api.session() as http:
        await applied(http, ALPHA, "old", {"size": 3, "replicas": 1}, 201)
        async with http.patch(f"{V1}/g?fieldManager=hand", json={"spec": {"width": 5}}, headers=merge) as answer:
            assert owned(await answer.json()) == {"old": ("v1alpha1", ["replicas"]), "hand": ("v1", ["width"])}
        async with http.patch(f"{V1}/g/status?fieldManager=hand", json={"status": {"phase": "x"}}, headers=merge) as answer:
            assert answer.status == 200 and owned(await answer.json())["old"] == ("v1alpha1", ["replicas"])
        async with http.patch(f"{V1}/g?fieldManager=hand", json={"spec": {"replicas": None}}, headers=merge) as answer:
            assert owned(await answer.json()) == {"hand": ("v1", ["width"])}, "nobody owns what is gone"


async def test_who_wrote_through_a_version_that_is_gone_owns_nothing(api: ApiServer) -> None:
    async with api.session() as http:
        path = V1.replace("/v1/", "/v1beta1/")
        await applied(http, path, "old", {"size": 3}, 201)
        drop = json.dumps([{"op": "remove", "path": "/spec/versions/1"}])
        await ok(api, "patch", f"crd/gadgets.{GROUP}", "--type=json", "-p", drop)
        assert owned(await applied(http, V1, "new", {"width": 4})) == {"new": ("v1", ["width"])}
