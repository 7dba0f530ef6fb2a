"""The live page as an attacker meets it: over real sockets and TLS, with wrong tokens, strangers' sites, nodes' certificates and too many connections."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from labctl.dash import feed
from labctl.dash.guard import HEADER
from tests.dash.world import LivePage


@pytest.fixture
async def live(tmp_path: Path):
    async with LivePage.running(tmp_path, nodes=1) as running:
        yield running


def browser(live: LivePage, who=None, **more) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(ssl=live.tls(who), limit=0)
    return aiohttp.ClientSession(live.url, connector=connector, cookie_jar=aiohttp.CookieJar(unsafe=True), **more)


async def opened(live: LivePage, http: aiohttp.ClientSession) -> str:
    """Opens the page as a person does, and returns the session's guard."""
    async with http.get(live.address()) as answer:
        assert answer.status == 200 and "<title>labctl</title>" in await answer.text()
    async with http.get("/dash/stream") as stream:
        return (await _picture(stream))["guard"]


async def _picture(stream: aiohttp.ClientResponse) -> dict:
    async with asyncio.timeout(20):
        assert stream.status == 200 and stream.content_type == "text/event-stream"
        assert (await stream.content.readline()) == b"event: picture\n"
        return json.loads((await stream.content.readline()).removeprefix(b"data: "))


async def test_an_address_opens_the_page_once_and_its_cookie_is_kept_from_scripts(live: LivePage) -> None:
    address = live.address()
    async with browser(live) as http:
        async with http.get(address, allow_redirects=False) as answer:
            assert answer.status == 303 and answer.headers["Location"] == "/dash/"
            cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith(f"__Host-labctl-dash-{live.port}=")
        assert all(word in cookie for word in ("HttpOnly", "Secure", "SameSite=Strict", "Path=/"))
        async with http.get(address) as again:
            assert again.status == 403 and "labctl dash" in await again.text()
        async with http.get("/dash/") as page:
            assert page.status == 200
            policy = page.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
            assert page.headers["Cache-Control"] == "no-store" and page.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "page.html",
        "dash.js",
        "stream.js",
        "dash.css",
        "stream",
        "open",
        "open?token=",
        "open?token=guess",
        "../api",
        "%2e%2e/api",
        "x" * 3000,
    ],
)
async def test_without_a_session_there_is_nothing_to_see(live: LivePage, path: str) -> None:
    async with browser(live) as http:
        for cookie in ("", "guess", "\udcff".encode("utf-8", "surrogateescape").decode("latin-1")):
            headers = {"Cookie": f"__Host-labctl-dash-{live.port}={cookie}"} if cookie else {}
            async with http.get(f"/dash/{path}", headers=headers) as answer:
                assert answer.status in (401, 403, 404) and "minion-1" not in await answer.text()


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 403),  # the cookie alone
        ({HEADER: "guess"}, 403),
        ({"Origin": "https://evil.test", HEADER: "GUARD"}, 403),
        ({"Origin": "null", HEADER: "GUARD"}, 403),
        ({"Sec-Fetch-Site": "cross-site", HEADER: "GUARD"}, 403),
        ({"Sec-Fetch-Site": "same-site", HEADER: "GUARD"}, 403),
        ({"Host": "evil.test", HEADER: "GUARD"}, 403),
        ({"Host": "127.0.0.1:1", HEADER: "GUARD"}, 403),
        ({"Authorization": "Bearer x", HEADER: "GUARD"}, 403),
        ({"Content-Type": "text/plain", HEADER: "GUARD"}, 415),  # what a form of another site can send without asking
        ({"Content-Type": "application/x-www-form-urlencoded", HEADER: "GUARD"}, 415),
        ({"Origin": "SELF", "Sec-Fetch-Site": "same-origin", HEADER: "GUARD"}, 200),
    ],
)
async def test_only_the_page_itself_breaks_anything(live: LivePage, headers: dict[str, str], status: int) -> None:
    async with browser(live) as http:
        guard = await opened(live, http)
        sent = {"Content-Type": "application/json", **headers}
        sent = {name: {"GUARD": guard, "SELF": live.url}.get(value, value) for name, value in sent.items()}
        async with http.post("/dash/faults", data=json.dumps({"type": "power-off", "target": "minion-1"}), headers=sent) as answer:
            assert answer.status == status
        assert len(live.client.list("faults.labctl.internal")) == (status == 200)


async def test_certificates_of_nodes_and_tokens_of_pods_open_nothing(live: LivePage) -> None:
    node = live.authority.node("minion-1")
    async with browser(live, node) as http:
        for address in (live.address(), "/dash/", "/dash/stream", "/dash/dash.js"):
            async with http.get(address) as answer:
                assert answer.status == 403 and "people" in await answer.text()
        async with http.post("/labctl/v1/dash", json={}) as answer:
            assert answer.status == 403
    async with browser(live) as http, http.post("/labctl/v1/dash", json={}) as answer:
        assert answer.status == 401
    async with browser(live, live.authority.admin()) as http:
        async with http.post("/labctl/v1/dash", json={}) as answer:
            path = (await answer.json())["path"]
        async with http.get("/dash/") as answer:
            assert answer.status == 403, "a certificate is no session"
        async with http.get(path) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    "path, body, said",
    [
        ("faults", b"", "truncated"),
        ("faults", b"[" * 100_000, "more than"),
        ("faults", b"[" * 10_000, "Expected"),
        ("faults", b'{"type": "power-off"}', "target"),
        ("faults", b'{"type": "no-such", "target": "minion-1"}', "supported values"),
        ("faults", b'{"type": "power-off", "target": "minion-1", "metadata": {}}', "unknown field"),
        ("faults", b'{"type": "<script>", "target": "minion-1"}', "spec.type"),
        ("faults", b'{"type": "power-off", "target": "minion-1", "duration": "for ever"}', "spec.duration"),
        ("heal", b'{"name": "no-such"}', "not found"),
        ("heal", b'{"name": "a/b/c"}', ""),
        ("heal", b'{"name": 7}', "Expected"),
    ],
)
async def test_bad_bodies_are_refused_in_a_line(live: LivePage, path: str, body: bytes, said: str) -> None:
    async with browser(live) as http:
        guard = await opened(live, http)
        async with http.post(f"/dash/{path}", data=body, headers={HEADER: guard, "Content-Type": "application/json"}) as answer:
            text = await answer.text()
            assert 400 <= answer.status < 500 and said in json.loads(text)["message"] and len(text) < 2000
        assert not live.client.list("faults.labctl.internal")


async def test_too_many_pages_are_told_so_and_closed_ones_make_room(live: LivePage) -> None:
    async with browser(live) as http:
        await opened(live, http)
        await live.until(lambda: live.feed.open_pages == 0)
        streams = [await http.get("/dash/stream") for _ in range(feed.PAGES_MAX)]
        async with http.get("/dash/stream") as answer:
            assert answer.status == 503 and "close one" in await answer.text()
        streams[0].close()
        await live.until(lambda: live.feed.open_pages < feed.PAGES_MAX)
        async with http.get("/dash/stream") as answer:
            await _picture(answer)
        for stream in streams:
            stream.close()
        await live.until(lambda: live.feed.open_pages == 0)


async def test_a_closed_session_hears_and_does_nothing_more(live: LivePage) -> None:
    async with browser(live) as http:
        guard = await opened(live, http)
        async with http.get("/dash/stream") as stream:
            await _picture(stream)
            async with http.post("/dash/close", data="{}", headers={HEADER: guard, "Content-Type": "application/json"}) as answer:
                assert answer.status == 200
            await live.deploy("late", 1)
            async with asyncio.timeout(20):
                assert b"late" not in await stream.content.read()
        async with http.get("/dash/stream") as answer:
            assert answer.status == 403


async def test_a_page_that_reads_nothing_is_let_go(live: LivePage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.dash.dash.STALL_S", 0.5)
    async with browser(live, read_bufsize=64 << 10) as http:
        await opened(live, http)
        await live.until(lambda: live.feed.open_pages == 0)
        stream = await http.get("/dash/stream")
        await live.until(lambda: live.feed.open_pages == 1)
        text = "x" * 1_000_000
        async with asyncio.timeout(60):
            while live.feed.open_pages:
                live.feed.tell("flow", text)  # more than the sockets between them hold
                await asyncio.sleep(0.05)
        stream.close()
