"""A list that is asked for again is the one that the store has: kept answers are never older than the newest change."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from labctl.api import lists
from labctl.api.pieces import PIECE_BYTES
from tests.inprocess import ApiServer

MAPS = "/api/v1/namespaces/default/configmaps"
ASKED_MAX = 3
"""The first answer is made, the second is made and kept, the third is a kept one."""


def config_map(name: str, data: str = "") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": data}}


async def listed(http, path: str = MAPS) -> dict[str, Any]:
    """What each of several requests in a row is answered, once it was found to be the same."""
    answers = []
    for _ in range(ASKED_MAX):
        async with http.get(path) as answer:
            assert answer.status == 200
            answers.append(await answer.json())
    assert answers[1:] == answers[:-1]
    return answers[0]


def data_of(answer: dict[str, Any]) -> dict[str, str]:
    return {item["metadata"]["name"]: item["data"]["k"] for item in answer["items"]}


FOR_LISTS, FOR_WATCHES = (
    "sendInitialEvents is forbidden for list",
    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
)
WITH_CONTINUE = "resourceVersionMatch is forbidden when continue is provided"
UNLESS_SET = "resourceVersionMatch is forbidden unless resourceVersion is provided"


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("sendInitialEvents=true", [FOR_LISTS]),
        ("sendInitialEvents=false&resourceVersion=1&resourceVersionMatch=NotOlderThan", [FOR_LISTS]),
        ("resourceVersionMatch=Exact&continue=abc", [UNLESS_SET, WITH_CONTINUE]),
        ("resourceVersion=0&resourceVersionMatch=Exact", ['resourceVersionMatch "exact" is forbidden for resourceVersion "0"']),
        ("resourceVersion=1&resourceVersionMatch=Foo", ['supported values: "", "Exact", "NotOlderThan"']),
        ("watch=1&sendInitialEvents=true", [FOR_WATCHES]),
        ("watch=1&sendInitialEvents=true&resourceVersionMatch=Exact", [FOR_WATCHES, 'supported values: "NotOlderThan"']),
        ("watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&continue=abc", [WITH_CONTINUE]),
        ("watch=1&resourceVersionMatch=NotOlderThan", ["resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"]),
    ],
)
async def test_options_that_do_not_go_together_are_all_told(tmp_path: Path, query: str, wrong: list[str]):
    async with (
        ApiServer.running(tmp_path) as api,
        api.session() as http,
        http.get(f"/api/v1/namespaces/default/configmaps?{query}") as answer,
    ):
        said = await answer.json()
    assert (answer.status, said["details"]["kind"]) == (422, "ListOptions")
    assert len(said["details"]["causes"]) == len(wrong) and all(words in said["message"] for words in wrong)


async def test_each_change_is_in_the_next_list(tmp_path: Path):
    async with ApiServer.running(tmp_path) as api, api.session() as http:
        assert (await listed(http))["items"] == []
        await http.post(MAPS, json=config_map("a", "1"))
        assert data_of(await listed(http)) == {"a": "1"}
        await http.post(MAPS, json=config_map("b", "2"))
        await http.put(f"{MAPS}/a", json=config_map("a", "3"))
        assert data_of(await listed(http)) == data_of(await listed(http, f"{MAPS}?resourceVersion=0")) == {"a": "3", "b": "2"}
        await http.delete(f"{MAPS}/b")
        assert data_of(await listed(http)) == {"a": "3"}


async def test_a_kept_list_is_of_the_current_revision(tmp_path: Path):
    """A program watches from there: with the revision of an older list it would get 410 some day, although nothing was missed."""
    async with ApiServer.running(tmp_path) as api, api.session() as http:
        await http.post(MAPS, json=config_map("a"))
        before = await listed(http)
        async with http.post("/api/v1/namespaces/default/secrets", json={"metadata": {"name": "s"}}) as answer:
            revision = (await answer.json())["metadata"]["resourceVersion"]
        after = await listed(http)
        assert after["metadata"]["resourceVersion"] == revision
        assert after["items"] == before["items"]


async def test_namespaces_and_kinds_have_lists_of_their_own(tmp_path: Path):
    async with ApiServer.running(tmp_path) as api, api.session() as http:
        await http.post(MAPS, json=config_map("a"))
        await http.post(MAPS.replace("default", "kube-system"), json=config_map("b"))
        for path, names in (
            (MAPS, {"a"}),
            (MAPS.replace("default", "kube-system"), {"b"}),
            ("/api/v1/configmaps", {"a", "b"}),
            (f"{MAPS}?labelSelector=x", set()),
            (f"{MAPS}?fieldSelector=metadata.name=a", {"a"}),
            (f"{MAPS}?limit=1", {"a"}),
        ):
            assert {item["metadata"]["name"] for item in (await listed(http, path))["items"]} == names, path
        async with (
            http.get(MAPS) as plain,
            http.get(MAPS, headers={"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}) as cut,
        ):
            assert (await plain.json())["kind"] == "ConfigMapList"
            assert (await cut.json())["kind"] == "PartialObjectMetadataList"


async def test_a_list_of_many_pieces_is_the_same_in_every_form(tmp_path: Path):
    async with ApiServer.running(tmp_path) as api, api.session() as http:
        count, size = 24, PIECE_BYTES // 4
        for number in range(count):
            await http.post(MAPS, json=config_map(f"m{number:02}", f"{number:02}" * (size // 2)))
        whole = await listed(http)
        assert data_of(whole) == {f"m{n:02}": f"{n:02}" * (size // 2) for n in range(count)}
        for headers in ({"Accept-Encoding": "gzip"}, {"Accept-Encoding": "identity"}, {"User-Agent": "curl/8"}):
            async with http.get(MAPS, headers=headers) as answer:
                assert await answer.json() == whole, headers
        async with (
            http.head(MAPS, headers={"Accept-Encoding": "identity"}) as head,
            http.get(MAPS, headers={"Accept-Encoding": "identity"}) as got,
        ):
            assert int(head.headers["Content-Length"]) == len(await got.read()) > count * size


async def test_a_client_that_leaves_in_the_middle_of_a_list_harms_nobody(tmp_path: Path):
    async with ApiServer.running(tmp_path) as api, api.session() as http:
        for number in range(24):
            await http.post(
                MAPS, json=config_map(f"m{number:02}", "x" * (1 << 20))
            )  # more than the kernel takes for a client that reads nothing
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=api.tls(api.authority.admin()))
        writer.write(f"GET {MAPS} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.transport.abort()
        assert len(data_of(await listed(http))) == 24


async def test_kept_lists_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lists, "_BYTES_MAX", 20_000)
    monkeypatch.setattr(lists, "_LISTS_MAX", 3)
    async with ApiServer.running(tmp_path) as api, api.session() as http:
        kept = lists.Lists(api.resources)
        kind = api.resources.registry["configmaps"]
        for name in "abcde":
            await http.post("/api/v1/namespaces", json={"metadata": {"name": name}})
            async with http.post(f"/api/v1/namespaces/{name}/configmaps", json=config_map("m", "x" * 8000)) as made:
                assert made.status == 201
        for _ in range(ASKED_MAX):
            for name in "abcde":
                assert len(b"".join(kept.objects(kind, name))) > 8000
                assert len(kept._kept) <= 3
        for _ in range(ASKED_MAX):
            assert kept.objects(kind, "e") == kept.objects(kind, "e")
            assert kept.objects(kind, "d") == kept.objects(kind, "d")
            assert len(b"".join(kept.objects(kind, ""))) > 40_000  # too large to be kept
        assert 8000 < kept._held_bytes == sum(each.size_bytes for each in kept._kept.values()) <= 20_000
