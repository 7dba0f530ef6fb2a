"""The proxy to pods and Services lets a pod change the protocol, as notebooks and dashboards do: a real WebSocket server stands behind the fake minion's port."""

from __future__ import annotations

import asyncio
import ssl
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from labctl.sim.remote import FakeHost, FakeRemote
from tests.api import minions
from tests.inprocess import ApiServer

Lab = tuple[ApiServer, FakeHost, FakeRemote]
BASE = "/api/v1/namespaces/default"
TOKEN_PROTOCOL = "base64url.bearer.authorization.k8s.io."


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with minions.lab(tmp_path) as made:
        await minions.create(made[0], "services", {"metadata": {"name": "web-service"}, "spec": {"ports": [{"port": 80}]}})
        subset = {"addresses": [minions.ENDPOINT], "ports": [{"port": 80}]}
        await minions.create(made[0], "endpoints", {"metadata": {"name": "web-service"}, "subsets": [subset]})
        yield made


@pytest.fixture
async def asked(lab: Lab) -> AsyncIterator[list[web.Request]]:
    """What the pod was asked. It repeats what is said to it on a WebSocket, and refuses and redirects below other paths."""
    api, host, _ = lab
    requests: list[web.Request] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        requests.append(request)
        if request.path == "/refused":
            raise web.HTTPForbidden(text="not you")
        if request.path == "/moved":
            raise web.HTTPFound("http://127.0.0.1:1/")
        if request.path == "/plain":
            return web.Response(text="no WebSocket")
        socket = web.WebSocketResponse(protocols=("chat",))
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"you said {message.data}")
        return socket

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(api.directory / "pki" / "server.crt", api.directory / "pki" / "server.key")
    application = web.Application()
    application.router.add_get("/{any:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    for port, context in ((80, None), (8443, tls)):
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        assert site._server is not None
        host.ports[minions.POD_IP, port] = minions.to_loopback(site._server.sockets[0].getsockname()[1])
    yield requests
    await runner.cleanup()


@pytest.mark.parametrize("where", ["pods/web", "pods/web:80", "services/web-service", "pods/https:web:8443"])
async def test_a_websocket_to_a_pod(lab: Lab, asked: list[web.Request], where: str) -> None:
    api, host, _ = lab
    async with api.session() as http:
        async with http.ws_connect(f"{BASE}/{where}/proxy/talk?a=b", protocols=("chat",)) as socket:
            assert socket.protocol == "chat"
            for word in ("one", "two" * 50_000):
                await socket.send_str(word)
                assert (await socket.receive(5)).data == f"you said {word}"
    assert asked[0].path_qs == "/talk?a=b" and asked[0].headers["X-Forwarded-Uri"] == f"{BASE}/{where}/proxy/talk"
    await _idle(host)


async def test_what_is_no_change_of_the_protocol(lab: Lab, asked: list[web.Request]) -> None:
    api, host, _ = lab
    async with api.session() as http:
        for path, code, words in (
            ("refused", 403, "not you"),
            ("moved", 503, "invalid upgrade response: status code 302"),
            ("plain", 503, "invalid upgrade response: status code 200"),
        ):
            headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "a" * 22 + "=="}
            async with http.get(f"{BASE}/pods/web/proxy/{path}", headers=headers, allow_redirects=False) as answered:
                assert answered.status == code and words in await answered.text()
    await _idle(host)


async def test_a_pod_that_is_not_there(lab: Lab) -> None:
    api, _, _ = lab
    async with api.session() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(f"{BASE}/pods/web:81/proxy/")
    assert refused.value.status == 503


async def test_a_browsers_token_stands_among_the_subprotocols_and_goes_no_further(lab: Lab, asked: list[web.Request]) -> None:
    api, _, _ = lab
    token = await _token_of_an_admin(api)
    spoken = TOKEN_PROTOCOL + urlsafe_b64encode(token.encode()).decode().rstrip("=")
    async with api.session(None) as http:
        async with http.ws_connect(f"{BASE}/pods/web/proxy/", protocols=("chat", spoken)) as socket:
            assert socket.protocol == "chat"
        async with http.ws_connect(
            f"{BASE}/pods/web/exec?command=echo&command=hi&stdout=true", protocols=(spoken, "v4.channel.k8s.io")
        ) as socket:
            assert socket.protocol == "v4.channel.k8s.io" and (await socket.receive(5)).data == b"\x01hi\n"
        async with http.ws_connect("/api/v1/pods?watch=true", protocols=("base64.binary.k8s.io", spoken)) as socket:
            assert socket.protocol == "base64.binary.k8s.io" and (await socket.receive(5)).json()["type"] == "ADDED"
        async with http.get("/api/v1/pods", headers={"Sec-WebSocket-Protocol": f"chat, {spoken}"}) as answered:
            assert answered.status == 401, "it counts for a WebSocket only"
        for wrong in (
            (spoken,),
            ("chat", spoken, spoken),
            ("chat", TOKEN_PROTOCOL + "%"),
            ("chat", TOKEN_PROTOCOL + "YQ"),
            ("chat", TOKEN_PROTOCOL + "_w"),
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(f"{BASE}/pods/web/proxy/", protocols=wrong)
            assert refused.value.status == 401, wrong
    assert [request.headers["Sec-WebSocket-Protocol"] for request in asked] == ["chat"]


async def _token_of_an_admin(api: ApiServer) -> str:
    subject = {"kind": "ServiceAccount", "name": "robot", "namespace": "default"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    binding: dict[str, Any] = {"metadata": {"name": "robot"}, "roleRef": role, "subjects": [subject]}
    await minions.create(api, "serviceaccounts", {"metadata": {"name": "robot"}})
    await minions.create(api, "clusterrolebindings.rbac.authorization.k8s.io", binding)
    async with api.session() as http, http.post(f"{BASE}/serviceaccounts/robot/token", json={"spec": {}}) as answered:
        return str((await answered.json())["status"]["token"])


async def _idle(host: FakeHost) -> None:
    async with asyncio.timeout(5):
        while host.running:
            await asyncio.sleep(0.005)
