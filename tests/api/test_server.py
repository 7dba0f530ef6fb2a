"""Starting and stopping: several sockets, readiness, and an order in which nothing is lost."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import aiohttp
import pytest

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


async def test_not_ready_until_the_master_says_so(tmp_path: Path) -> None:
    missing = ["store"]
    async with ApiServer.running(tmp_path, ready=lambda: missing[0] if missing else "") as api, api.session(None) as http:
        async with http.get("/readyz") as answered:
            assert (answered.status, await answered.text()) == (500, "[-]store\nreadyz check failed\n")
        async with http.get("/livez") as answered:
            assert answered.status == 200
        missing.clear()
        async with http.get("/readyz") as answered:
            assert answered.status == 200


async def test_many_clients_at_once(api: ApiServer) -> None:
    async with api.session() as http:

        async def one(number: int) -> int:
            async with http.post(MAPS, json={"metadata": {"name": f"m{number}"}}) as answered:
                return answered.status

        assert set(await asyncio.gather(*(one(n) for n in range(200)))) == {201}
        async with http.get(MAPS) as answered:
            assert len((await answered.json())["items"]) == 200
