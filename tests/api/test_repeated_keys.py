"""A body that says a key twice: refused, told, or taken as it is (fieldValidation), in YAML's words and in JSON's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.inprocess import ApiServer

PATH = "/api/v1/namespaces/default/configmaps"
YAML = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  name: b\ndata:\n  x: one\n  x: two\nwrong: 1\n"
JSON = '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "name": "b"}, "data": {"x": "one", "x": "two"}, "wrong": 1}'
LINES = ('line 5: key "name" already set in map', 'line 8: key "x" already set in map')
UNKNOWN = 'unknown field "wrong"'
TOLD = {"yaml": [*LINES, UNKNOWN], "json": [UNKNOWN, 'duplicate field "metadata.name"', 'duplicate field "data.x"']}
STRICT = {"yaml": "yaml: unmarshal errors:\n  " + "\n  ".join(LINES) + ", " + UNKNOWN, "json": ", ".join(TOLD["json"])}
BODIES = {"yaml": YAML, "json": JSON}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with ApiServer.running(tmp_path) as api, api.session() as session:
        yield session


@pytest.mark.parametrize("form", ["yaml", "json"])
async def test_it_is_refused_told_or_taken(http: aiohttp.ClientSession, form: str) -> None:
    headers = {"Content-Type": f"application/{form}"}
    async with http.post(f"{PATH}?fieldValidation=Strict", data=BODIES[form], headers=headers) as refused:
        said = await refused.json()
    assert (refused.status, said["reason"]) == (400, "BadRequest")
    assert said["message"] == f'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: {STRICT[form]}'
    async with http.post(f"{PATH}?fieldValidation=Warn", data=BODIES[form], headers=headers) as made:
        told = [line.removeprefix('299 - "').removesuffix('"').replace('\\"', '"') for line in made.headers.getall("Warning")]
        found = await made.json()
    assert (made.status, found["metadata"]["name"], found["data"]) == (201, "b", {"x": "two"})
    assert told == TOLD[form]
    async with http.put(f"{PATH}/b?fieldValidation=Ignore", data=BODIES[form].replace("two", "three"), headers=headers) as changed:
        assert changed.status == 200 and "Warning" not in changed.headers
        assert (await changed.json())["data"] == {"x": "three"}


PATCHES = {
    "merge-patch": ('{"data": {"x": "1", "x": "2"}, "wrong": 1}', ['duplicate field "data.x"', 'unknown field "wrong"']),
    "strategic-merge-patch": ('{"data": {"x": "1", "x": "2"}, "wrong": 1}', ['duplicate field "data.x"', 'unknown field "wrong"']),
    "json-patch": (
        '[{"op": "add", "path": "/data", "value": {"x": "1", "x": "2"}, "odd": 1}]',
        ['json patch duplicate field "[0].value.x"', 'json patch unknown field "[0].odd"'],
    ),
}


@pytest.mark.parametrize("form", PATCHES)
async def test_a_patch_that_says_a_field_twice(http: aiohttp.ClientSession, form: str) -> None:
    body, wrong = PATCHES[form]
    headers = {"Content-Type": f"application/{form}+json"}
    async with http.post(PATH, json={"metadata": {"name": "a"}}) as made:
        assert made.status == 201
    async with http.patch(f"{PATH}/a?fieldValidation=Strict", data=body, headers=headers) as refused:
        assert refused.status == 422 and (await refused.json())["message"].endswith("strict decoding error: " + ", ".join(wrong))
    async with http.patch(f"{PATH}/a", data=body, headers=headers) as changed:
        told = [line.removeprefix('299 - "').removesuffix('"').replace('\\"', '"') for line in changed.headers.getall("Warning")]
        assert (changed.status, told, (await changed.json())["data"]) == (200, wrong, {"x": "2"})
    async with http.patch(f"{PATH}/a?fieldValidation=Ignore", data=body, headers=headers) as changed:
        assert changed.status == 200 and "Warning" not in changed.headers
