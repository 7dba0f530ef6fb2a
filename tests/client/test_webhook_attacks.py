"""What a hostile webhook may not do to the master that asks it: send it elsewhere, have it remember things, or fill its memory."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.api import minions
from tests.client.hooks import Hooks
from tests.client.test_admission import configuration
from tests.inprocess import ApiServer

KIND = "validatingwebhookconfigurations.admissionregistration.k8s.io"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path) as running:
        yield running


async def write(api: ApiServer, name: str) -> str:
    """Make a ConfigMap. Return why that was refused."""
    async with api.session() as http:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        async with http.post("/api/v1/namespaces/default/configmaps", json=body) as answered:
            said = await answered.json()
            return str(said.get("message", ""))


@pytest.mark.parametrize("code", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(api: ApiServer, hooks: Hooks, code: int) -> None:
    """The master would ask what the webhook can't reach itself, and the answer would be read (CVE-2020-8561)."""
    seen: list[str] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        return web.json_response({})

    async def moved(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, headers={"Location": f"https://127.0.0.1:{hooks.port}/elsewhere"}, text="secret")

    hooks.routes = {"/elsewhere": elsewhere, "/moved": moved}
    await minions.create(api, KIND, configuration(hooks, "/moved"))
    assert "an error on the server" in await write(api, "a") and not seen


async def test_it_can_not_have_the_master_remember_anything(api: ApiServer, hooks: Hooks) -> None:
    cookies: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        cookies.append(request.headers.get("Cookie", ""))
        review = await request.json()
        said = {"uid": review["request"]["uid"], "allowed": True}
        response = web.json_response({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": said})
        response.set_cookie(f"c{len(cookies)}", "x" * 1000)
        return response

    hooks.routes = {"/set": answer}
    told = configuration(hooks, "/set")
    told["webhooks"][0]["clientConfig"]["url"] = f"https://localhost:{hooks.port}/set"
    await minions.create(api, KIND, told)
    for name in ("a", "b", "c"):
        await write(api, name)
    assert cookies == ["", "", ""]


async def test_an_answer_is_not_unpacked(api: ApiServer, hooks: Hooks) -> None:
    """Nobody asked for a packed one, and 1 MB can stand for a thousand."""
    packed = await asyncio.to_thread(gzip.compress, b" " * (64 << 20))
    accepted: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        accepted.append(request.headers["Accept-Encoding"])
        return web.Response(body=packed, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})

    hooks.routes = {"/packed": answer}
    await minions.create(api, KIND, configuration(hooks, "/packed"))
    assert "couldn't get the answer as JSON" in await write(api, "a")
    assert accepted == ["identity"]
