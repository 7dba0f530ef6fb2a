"""What an aggregated API server may not do to the clients whose requests are passed on to it, with their credentials left out, and to this server."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.client.test_aggregation import BASE, GROUP, VERSION, Wardle, available, registration, rest_of, wardle

__all__ = ["wardle"]  # the fixture

MOVED = "the backend attempted to redirect this request, which is not permitted"


@asynccontextmanager
async def answering(api: Any, wardle: Wardle, answers: dict[str, bytes]) -> AsyncIterator[aiohttp.ClientSession]:
    """Serve an APIService that answers with these bytes by the last part of the path. Yield a client that may ask it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        writer.write(answers.get(path.rpartition("/")[2], b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=wardle.tls) as server:
        told = registration(api, wardle)
        told["spec"]["service"]["port"] = server.sockets[0].getsockname()[1]
        await asyncio.to_thread(api.apply, told)
        _, headers = await asyncio.to_thread(rest_of, api)
        connector = aiohttp.TCPConnector(ssl=False)
        async with aiohttp.ClientSession(api.url, connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(20)) as http:
            yield http


@pytest.mark.labctl(fresh=True)
async def test_it_sends_nobody_elsewhere_and_says_nothing_about_other_origins(labctl_api: Any, wardle: Wardle) -> None:
    """A client that follows would send its token along (CVE-2022-3172)."""
    answers = {
        f"r{code}": b"HTTP/1.1 %d X\r\nLocation: https://example.com/\r\nContent-Length: 0\r\n\r\n" % code for code in (300, 301, 307, 399)
    }
    answers["other"] = b"HTTP/1.1 304 Not Modified\r\nEtag: x\r\n\r\n"
    answers["cors"] = b"HTTP/1.1 200 \x1b[2J\r\nAccess-Control-Allow-Origin: *\r\nX-Own: 1\r\nContent-Length: 0\r\n\r\n"
    answers["control"] = b"HTTP/1.1 200 OK\r\nX-Own: \x1b[2J\r\nContent-Length: 0\r\n\r\n"
    answers["switched"] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"
    path = f"{BASE}/namespaces/{labctl_api.namespace}/flunders"
    async with answering(labctl_api, wardle, answers) as http:
        for name in ("r300", "r301", "r307", "r399"):
            async with http.get(f"{path}/{name}", allow_redirects=False) as answered:
                assert (answered.status, (await answered.json())["message"]) == (502, MOVED)
                assert "Location" not in answered.headers
        async with http.get(f"{path}/other") as answered:
            assert (answered.status, answered.headers["Etag"]) == (304, "x")
        async with http.get(f"{path}/cors") as answered:
            assert (answered.status, answered.reason, answered.headers["X-Own"]) == (200, "OK", "1")
            assert "Access-Control-Allow-Origin" not in answered.headers
        for name in ("control", "switched"):
            async with http.get(f"{path}/{name}") as answered:
                assert answered.status == 503 and "malformed HTTP response" in (await answered.json())["message"]


@pytest.mark.labctl(fresh=True)
async def test_a_change_of_the_protocol_that_leads_elsewhere_reaches_nobody(labctl_api: Any, wardle: Wardle) -> None:
    answers = {
        "moved": b"HTTP/1.1 307 Moved\r\nLocation: https://example.com/\r\nContent-Length: 0\r\n\r\n",
        "fine": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "odd": b"SSH-2.0-x\r\n\r\n",
        "short": b"HTTP/1.1 1\r\n\r\n",
    }
    upgrade = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
    path = f"{BASE}/namespaces/{labctl_api.namespace}/flunders"
    async with answering(labctl_api, wardle, answers) as http:
        for name in answers:
            async with http.get(f"{path}/{name}", headers=upgrade, allow_redirects=False) as answered:
                text = await answered.text()
                assert answered.status == 503 and "Location" not in answered.headers, text
                assert ("invalid upgrade response: status code" if name in ("moved", "fine") else "is no HTTP") in text


@pytest.mark.labctl(fresh=True)
async def test_one_that_is_this_server_itself_is_asked_once(labctl_api: Any, wardle: Wardle) -> None:
    """Its Service leads to loopback, where this server listens, too: a request would go round for ever."""
    told = registration(labctl_api, wardle)
    told["spec"] = {key: value for key, value in told["spec"].items() if key != "caBundle"} | {"insecureSkipTLSVerify": True}
    told["spec"]["service"]["port"] = int(labctl_api.url.rpartition(":")[2])
    await asyncio.to_thread(labctl_api.apply, told)
    path, headers = await asyncio.to_thread(rest_of, labctl_api)
    context = ssl._create_unverified_context()
    async with aiohttp.ClientSession(labctl_api.url, headers=headers, timeout=aiohttp.ClientTimeout(20)) as http:
        async with http.get(path, ssl=context) as answered:
            assert answered.status in (401, 403, 503), await answered.text()
    await asyncio.to_thread(labctl_api.wait, lambda: available(labctl_api).get("status") == "False", 20)
    assert json.loads(await asyncio.to_thread(labctl_api.kubectl, "get", "apiservice", f"{VERSION}.{GROUP}", "-o", "json"))["spec"]
