"""The seam for what labctl's own commands and agents ask for, under /labctl/v1."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from labctl.api.extensions import ExtensionRequest, Extensions, File, Text
from labctl.errors import ApiError
from tests.inprocess import ApiServer

BLOB = bytes(range(256)) * 40_000  # ten megabytes: more than any buffer on the way


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    (tmp_path / "blob").write_bytes(BLOB)
    ended: list[str] = []

    async def why(request: ExtensionRequest) -> Any:
        return {"lines": [request.user.name, request.params["name"], request.query.first("deep"), request.body.decode()]}

    async def blob(request: ExtensionRequest) -> Any:
        if request.params["digest"] != "sha256:x":
            raise ApiError(404, "NotFound", "no such blob")
        return File(tmp_path / "blob")

    async def text(request: ExtensionRequest) -> Any:
        return Text("hello")

    async def lines(request: ExtensionRequest) -> Any:
        async def stream() -> AsyncIterator[bytes]:
            try:
                for number in range(1000):
                    yield f"{number}\n".encode()
            finally:
                ended.append("lines")

        return stream()

    routes = Extensions()
    routes.add("GET", "/labctl/v1/why/{kind}/{name}", why)
    routes.add("POST", "/labctl/v1/why/{kind}/{name}", why)
    routes.add("GET", "/labctl/v1/blobs/{digest}", blob)
    routes.add("GET", "/labctl/v1/text", text)
    routes.add("GET", "/labctl/v1/lines", lines)
    async with ApiServer.running(tmp_path, extensions=routes) as running:
        yield running
    assert ended in ([], ["lines"])


async def test_json_with_parameters_query_and_body(api: ApiServer) -> None:
    async with api.session() as http:
        async with http.get("/labctl/v1/why/pod/a%20b?deep=1") as answered:
            assert await answered.json() == {"lines": ["labctl-admin", "a b", "1", ""]}
        async with http.post("/labctl/v1/why/pod/a", data="body") as answered:
            assert (await answered.json())["lines"][3] == "body"


async def test_a_blob_for_an_agent(api: ApiServer) -> None:
    async with api.session("node:minion-1") as http:
        async with http.get("/labctl/v1/blobs/sha256:x") as answered:
            assert await answered.read() == BLOB
            assert answered.headers["Content-Length"] == str(len(BLOB))
        async with http.get("/labctl/v1/blobs/sha256:y") as answered:
            assert (answered.status, (await answered.json())["message"]) == (404, "no such blob")
        async with http.get("/labctl/v1/why/pod/a") as answered:
            assert answered.status == 403


async def test_text_and_streams(api: ApiServer) -> None:
    async with api.session() as http:
        async with http.get("/labctl/v1/text") as answered:
            assert await answered.text() == "hello"
        async with http.get("/labctl/v1/lines") as answered:
            assert len((await answered.read()).splitlines()) == 1000


@pytest.mark.parametrize(("method", "path", "code"), [("GET", "/labctl/v1/none", 404), ("DELETE", "/labctl/v1/text", 405)])
async def test_what_nobody_registered(api: ApiServer, method: str, path: str, code: int) -> None:
    async with api.session() as http, http.request(method, path) as answered:
        assert answered.status == code
