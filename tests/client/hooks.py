"""A webhook server for tests: the fixture `hooks` (conftest.py) starts one."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from labctl.certificates import Authority


def _allowed(_request: dict[str, Any]) -> dict[str, Any]:
    return {"allowed": True}


class Hooks:
    """A webhook server: what it was asked by path, and what it answers."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority.create(directory / "hooks")
        self.authority.server(["localhost", "hook.default.svc"], ["127.0.0.1"])
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(directory / "hooks" / "server.crt", directory / "hooks" / "server.key")
        self.asked: dict[str, list[dict[str, Any]]] = {}
        self.answers: dict[str, Any] = {}
        self.routes: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {}  # what answers a path in its own way
        self.port = 0

    async def start(self) -> web.AppRunner:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_post("/{tail:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)  # a webhook that never answers does not hold up the end
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        self.port = runner.addresses[0][1]
        return runner

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path in self.routes:
            return await self.routes[request.path](request)
        review = await request.json()
        self.asked.setdefault(request.path, []).append(review["request"])
        answer = self.answers[request.path]
        if isinstance(answer, web.StreamResponse):
            return answer
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            answer = _allowed
        said = {"uid": review["request"]["uid"], **answer(review["request"])}
        return web.json_response({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": said})

    def client(self, path: str) -> dict[str, Any]:
        bundle = base64.b64encode(self.authority.certificate_pem).decode()
        return {"url": f"https://127.0.0.1:{self.port}{path}", "caBundle": bundle}
