"""Starting and stopping: several sockets, readiness, and an order in which nothing is lost."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import aiohttp
import pytest

from labctl.api.health import Check
from tests.inprocess import ApiServer

MAPS = "/api/v1/namespaces/default/configmaps"


async def test_it_answers_on_sockets_that_come_later(api: ApiServer) -> None:
    more = socket.create_server(("127.0.0.1", 0))
    await api.server.listen([more])
    async with api.session() as http, http.get(f"https://127.0.0.1:{more.getsockname()[1]}/version") as answered:
        assert answered.status == 200


async def test_a_write_under_way_is_finished_and_then_nobody_answers(api: ApiServer) -> None:
    async with api.session() as http:
        writes = [asyncio.create_task(http.post(MAPS, json={"metadata": {"name": f"m{n}"}})) for n in range(20)]
        while not api.resources.list(api.resources.registry["configmaps"], "default").entries:
            await asyncio.sleep(0)
        async with asyncio.timeout(3):
            await api.server.stop()
        answers = await asyncio.gather(*writes, return_exceptions=True)
        made = {entry.key for entry in api.resources.list(api.resources.registry["configmaps"], "default").entries}
        told = [a for a in answers if isinstance(a, aiohttp.ClientResponse) and a.status == 201]
        assert told and len(told) <= len(made)  # nobody was told of an object that isn't there
        with pytest.raises(aiohttp.ClientConnectionError):
            await http.get("/version")


async def test_health_says_which_check_failed(tmp_path: Path) -> None:
    """In the words of k8s.io/apiserver/pkg/server/healthz."""
    wrong = {"store": "the disk is full", "task/watch": "ended 3 times"}
    checks = lambda: (Check("store", lambda: wrong.get("store", "")), Check("task/watch", lambda: wrong.get("task/watch", ""), live=False))  # noqa: E731
    async with ApiServer.running(tmp_path, checks=checks) as api, api.session(None) as nobody, api.session() as admin:

        async def ask(path: str, http: aiohttp.ClientSession = nobody) -> tuple[int, str]:
            async with http.get(path) as answered:
                assert answered.headers["Content-Type"] == "text/plain; charset=utf-8" or answered.status == 401
                return answered.status, await answered.text()

        told = "[+]ping ok\n[-]store failed: reason withheld\n"
        assert await ask("/readyz") == (500, told + "[-]task/watch failed: reason withheld\nreadyz check failed\n")
        assert await ask("/livez") == (500, told + "livez check failed\n")
        assert await ask("/readyz?exclude=store&exclude=task/watch") == (200, "ok")
        excluded = (
            '[+]ping ok\n[+]store excluded: ok\nwarn: some health checks cannot be excluded: no matches for "a","b"\nhealthz check passed\n'
        )
        assert await ask("/healthz?verbose&exclude=store&exclude=b&exclude=a") == (200, excluded)
        assert (await ask("/readyz/store"))[0] == 401
        assert await ask("/readyz/store", admin) == (500, "internal server error: the disk is full\n")
        assert await ask("/readyz/ping", admin) == (200, "ok")
        assert (await ask("/readyz/nothing", admin))[0] == 404
        wrong.clear()
        assert await ask("/readyz") == await ask("/healthz/store", admin) == (200, "ok")
        assert await ask("/readyz?verbose") == (200, "[+]ping ok\n[+]store ok\n[+]task/watch ok\nreadyz check passed\n")


async def test_many_clients_at_once(api: ApiServer) -> None:
    async with api.session() as http:

        async def one(number: int) -> int:
            async with http.post(MAPS, json={"metadata": {"name": f"m{number}"}}) as answered:
                return answered.status

        assert set(await asyncio.gather(*(one(n) for n in range(200)))) == {201}
        async with http.get(MAPS) as answered:
            assert len((await answered.json())["items"]) == 200
