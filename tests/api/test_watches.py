"""Watches over real sockets: ordered, once each, ended at once, and never forgotten."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from labctl.api.settings import ApiSettings
from labctl.errors import ApiError
from labctl.resources.service import ListOptions
from labctl.store.memory import memory_store
from labctl.store.settings import StoreSettings
from tests.inprocess import ApiServer

MAPS = "/api/v1/namespaces/default/configmaps"


async def make(http: aiohttp.ClientSession, name: str, **data: str) -> dict[str, Any]:
    async with http.post(MAPS, json={"metadata": {"name": name}, "data": data}) as answered:
        assert answered.status == 201, await answered.text()
        return await answered.json()


async def revision(http: aiohttp.ClientSession) -> str:
    async with http.get(MAPS) as answered:
        return (await answered.json())["metadata"]["resourceVersion"]


async def lines(answered: aiohttp.ClientResponse, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(5):
        return [json.loads(await answered.content.readline()) for _ in range(count)]


def watchers(api: ApiServer) -> int:
    return sum(len(found) for found in api.resources.store._watchers.values())  # type: ignore[attr-defined]


async def until(condition: Any, deadline_s: float = 5.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.005)


async def test_every_change_once_in_order(api: ApiServer) -> None:
    async with api.session() as http:
        since = await revision(http)
        async with http.get(f"{MAPS}?watch=1&resourceVersion={since}") as answered:
            for number in range(5):
                await make(http, f"m{number}")
            async with http.patch(
                f"{MAPS}/m0", data='{"data":{"a":"b"}}', headers={"Content-Type": "application/merge-patch+json"}
            ) as patched:
                assert patched.status == 200
            async with http.delete(f"{MAPS}/m1"):
                pass
            events = await lines(answered, 7)
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in events] == [
        *(("ADDED", f"m{n}") for n in range(5)),
        ("MODIFIED", "m0"),
        ("DELETED", "m1"),
    ]
    revisions = [int(e["object"]["metadata"]["resourceVersion"]) for e in events]
    assert revisions == sorted(revisions) and len(set(revisions)) == 7


async def test_without_a_revision_it_starts_with_what_is_there(api: ApiServer) -> None:
    async with api.session() as http:
        await make(http, "a")
        async with http.get(f"{MAPS}?watch=true") as answered:
            assert (await lines(answered, 1))[0]["type"] == "ADDED"


async def test_watch_list_marks_the_end_of_what_was_there(api: ApiServer) -> None:
    async with api.session() as http:
        await make(http, "a")
        query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        async with http.get(f"{MAPS}?{query}") as answered:
            assert answered.status == 200, await answered.text()
            added, mark = await lines(answered, 2)
    assert (added["type"], mark["type"]) == ("ADDED", "BOOKMARK")
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_too_old_is_told_inside_the_stream(api: ApiServer) -> None:
    async with api.session() as http:
        for number in range(3):
            await make(http, f"m{number}")
        await api.resources.store.compact(api.resources.store.revision)
        async with http.get(f"{MAPS}?watch=1&resourceVersion=1") as answered:
            assert answered.status == 200
            (event,) = await lines(answered, 1)
            assert await answered.content.read() == b""
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


async def test_a_watch_ends_when_its_time_is_up(api: ApiServer) -> None:
    async with api.session() as http, http.get(f"{MAPS}?watch=1&resourceVersion={await revision(http)}&timeoutSeconds=1") as answered:
        async with asyncio.timeout(5):
            assert await answered.content.read() == b""
        await until(lambda: watchers(api) == 0)


async def test_a_client_that_goes_is_forgotten_at_once(api: ApiServer) -> None:
    async with api.session() as http:
        async with http.get(f"{MAPS}?watch=1") as answered:
            await until(lambda: watchers(api) == 1)
            answered.close()
        await until(lambda: watchers(api) == 0, 1.0)


async def test_stopping_ends_watches_at_once_and_in_order(api: ApiServer) -> None:
    async with api.session() as http, http.get(f"{MAPS}?watch=1") as answered:
        await until(lambda: watchers(api) == 1)
        async with asyncio.timeout(1):
            await api.server.stop()
            assert await answered.content.read() == b""  # an end, not a reset
    assert watchers(api) == 0


async def test_a_websocket_gets_a_frame_per_event(api: ApiServer) -> None:
    async with api.session() as http, http.ws_connect(f"{MAPS}?watch=1") as socket:
        await make(http, "a")
        await make(http, "b")
        frames = [json.loads((await socket.receive(5)).data) for _ in range(2)]
        assert [f["object"]["metadata"]["name"] for f in frames] == ["a", "b"]
        await socket.close()
        await until(lambda: watchers(api) == 0)


async def test_many_watchers_of_one_change_share_its_line(api: ApiServer) -> None:
    async with api.session() as http:
        since = await revision(http)
        answers = [await http.get(f"{MAPS}?watch=1&resourceVersion={since}") for _ in range(20)]
        await make(http, "a")
        got = [await asyncio.wait_for(a.content.readline(), 5) for a in answers]
        assert len(set(got)) == 1 and json.loads(got[0])["object"]["metadata"]["name"] == "a"
        for answered in answers:
            answered.close()


async def test_a_watcher_that_takes_nothing_is_cut_off(tmp_path: Path) -> None:
    settings = ApiSettings(watch_stall_s=0.1)
    async with ApiServer.running(tmp_path, settings=settings, store=memory_store(StoreSettings(watch_backlog=1000))) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=api.tls(api.authority.admin()), limit=1024)
        writer.write(f"GET {MAPS}?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await until(lambda: watchers(api) == 1)
        async with api.session() as http:
            for number in range(100):
                await make(http, f"m{number}", big="x" * 200_000)
                if not watchers(api):
                    break
        await until(lambda: watchers(api) == 0)
        writer.close()


async def test_a_slow_watchers_end_disturbs_nobody(tmp_path: Path) -> None:
    """Past the store's bound a watcher is told 410 and closed, while others have every event."""
    async with ApiServer.running(tmp_path, store=memory_store(StoreSettings(watch_backlog=30))) as api, api.session() as http:
        kind = api.resources.registry["configmaps"]
        async with http.get(f"{MAPS}?watch=1") as quick:
            await until(lambda: watchers(api) == 1)
            await asyncio.gather(*(make(http, f"m{n}") for n in range(20)))
            events = await lines(quick, 20)
            assert {e["object"]["metadata"]["name"] for e in events} == {f"m{n}" for n in range(20)}
        slow = api.resources.watch(kind, "default", ListOptions(resource_version=str(api.resources.store.revision)))
        for number in range(40):
            await make(http, f"n{number}")
        with pytest.raises(ApiError) as caught:
            async for _ in slow:
                pass
        assert caught.value.code == 410


async def test_the_older_form_of_a_watch(api: ApiServer) -> None:
    """Programs that read the paths of OpenAPI know no other."""
    async with api.session() as http:
        for name in ("a", "b"):
            async with http.post("/api/v1/namespaces/default/configmaps", json={"metadata": {"name": name}}) as answered:
                assert answered.status == 201
        for path, names in (
            ("/api/v1/watch/namespaces/default/configmaps", ["a", "b"]),
            ("/api/v1/watch/configmaps/?resourceVersion=0", ["a", "b"]),
            ("/api/v1/watch/namespaces/default/configmaps/b", ["b"]),
            ("/api/v1/watch/namespaces/default", ["default"]),
            ("/api/v1/watch/configmaps?fieldSelector=metadata.name%3Db", ["b"]),
        ):
            both = "&" if "?" in path else "?"
            async with http.get(f"{path}{both}timeoutSeconds=1") as answered:
                assert answered.status == 200, path
                events = [json.loads(line) async for line in answered.content]
            assert [(each["type"], each["object"]["metadata"]["name"]) for each in events] == [("ADDED", name) for name in names], path
        for path in (
            "/api/v1/watch",
            "/api/v1/watch/",
            "/api/v1/watch/chairs",
            "/api/v1/watch/namespaces/default/configmaps/b/c",
            "/apis/apps/v2/watch/deployments",
        ):
            async with http.get(path) as answered:
                assert answered.status == 404, path
        async with http.delete("/api/v1/watch/namespaces/default/configmaps/b") as answered:
            assert answered.status in (404, 405)
        async with http.get("/openapi/v2") as answered:
            paths = (await answered.json(content_type=None))["paths"]
    told = paths["/apis/apps/v1/watch/namespaces/{namespace}/deployments/{name}"]["get"]
    assert (told["operationId"], told["x-kubernetes-action"]) == ("watchAppsV1NamespacedDeployment", "watch")
    assert paths["/api/v1/watch/pods"]["get"]["operationId"] == "watchCoreV1PodListForAllNamespaces"
    assert paths["/api/v1/pods"]["get"]["operationId"] == "listCoreV1PodForAllNamespaces"
