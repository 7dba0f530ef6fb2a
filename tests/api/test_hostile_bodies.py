"""Requests that are made to hurt: each is answered within its time and memory, and meanwhile another client is answered quickly.

The server runs in a process of its own whose memory is bounded; a request that took too much would end it, and the test with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from labctl.certificates import Authority
from tests.inprocess import client_tls

MEMORY_BYTES = 1 << 30
ANSWER_S = 60.0  # for the hostile request: under a second on a quiet machine; before, hours
OTHERS_S = 8.0  # for anybody else meanwhile: a tenth of a second on a quiet machine, and the client of the test is busy too

SERVER = """
import asyncio, resource, sys
from pathlib import Path
from tests.inprocess import ApiServer

async def main():
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
    async with ApiServer.running(Path(sys.argv[1])) as api:
        print(api.port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


class Bounded:
    """A server in a process of its own, and clients for it."""

    def __init__(self, directory: Path, port: int) -> None:
        self._authority = Authority.load(directory / "pki")
        self._directory = directory
        self._url = f"https://127.0.0.1:{port}"

    def session(self, node: str = "") -> aiohttp.ClientSession:
        """A client: the admin, or a node."""
        who = self._authority.node(node) if node else self._authority.admin()
        connector = aiohttp.TCPConnector(ssl=client_tls(self._authority, who, self._directory), limit=0)
        return aiohttp.ClientSession(self._url, connector=connector)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Bounded]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, str(tmp_path), str(MEMORY_BYTES), stdin=-1, stdout=-1, env=environment
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield Bounded(tmp_path, int(await asyncio.wait_for(process.stdout.readline(), 30)))
        assert process.returncode is None, "the server ended"
    finally:
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 30)


# ---- bodies

JSON, YAML = "application/json", "application/yaml"
JSON_PATCH, MERGE = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"
CONFIG, PODS = "/api/v1/namespaces/default/configmaps", "/api/v1/namespaces/default/pods"


def aliases(first: str, level: Callable[[str], str]) -> str:
    """Nine lines, each of which names the one before nine times."""
    lines = [f"a0: &a0 {first}", *(f"a{i}: &a{i} {level(','.join([f'*a{i - 1}'] * 9))}" for i in range(1, 9))]
    return "\n".join(lines)


def doubling(times: int) -> str:
    """A JSON patch that copies an annotation to the end of what it has, again and again."""
    start = {"op": "add", "path": "/metadata/annotations", "value": {"a": "x" * 1000}}
    grown = [{"op": "copy", "from": "/metadata/annotations", "path": f"/metadata/annotations/b{i}"} for i in range(times)]
    return json.dumps([start, *grown])


def deepening(times: int) -> str:
    """A JSON patch that makes an object ten thousand levels deep, one by one."""
    start = {"op": "add", "path": "/data", "value": {}}
    moves = [
        {"op": "move", "from": "/data", "path": "/x"},
        {"op": "add", "path": "/data", "value": {}},
        {"op": "move", "from": "/x", "path": "/data/x"},
    ]
    return json.dumps([start, *(moves * times)])


def quantity(text: str) -> str:
    return json.dumps(
        {"metadata": {"name": "q"}, "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": text}}}]}}
    )


BODIES: dict[str, tuple[str, str, str, str]] = {
    "YAML aliases": ("POST", CONFIG, YAML, aliases("[x,x,x,x,x,x,x,x,x]", "[{}]".format)),
    "YAML merge keys": ("POST", CONFIG, YAML, aliases("{x: 1}", "{{<<: [{}]}}".format)),
    "YAML inside itself": ("POST", CONFIG, YAML, "a: &a [*a]"),
    "YAML flow list": ("POST", CONFIG, YAML, "[" + "a," * 1_400_000 + "a]"),
    "YAML block list": ("POST", CONFIG, YAML, "- a\n" * 700_000),
    "YAML nested lists": ("POST", CONFIG, YAML, "- " * 1_400_000),
    "YAML directives": ("POST", CONFIG, YAML, "".join(f"%TAG !a{i}! tag:a\r" for i in range(120_000)) + "---\na: b"),
    "YAML number to the base of 60": ("POST", CONFIG, YAML, "a: 1" + ":1" * 1_400_000),
    "YAML number of many digits": ("POST", CONFIG, YAML, "a: 0x" + "f" * 2_800_000),
    "YAML, applied": ("PATCH", f"{CONFIG}/a?fieldManager=me", APPLY, aliases("[x,x,x,x,x,x,x,x,x]", "[{}]".format)),
    "JSON nested lists": ("POST", CONFIG, JSON, "[" * 2_900_000),
    "JSON of many lists": ("POST", CONFIG, JSON, '{"data":[' + "[]," * 900_000 + "1]}"),
    "JSON of many keys": ("POST", CONFIG, JSON, json.dumps({"data": {f"k{i}": 1 for i in range(90_000)}})),
    "JSON of unknown fields": ("POST", CONFIG, JSON, json.dumps({f"k{i}": 1 for i in range(90_000)})),
    "JSON number of many digits": ("POST", PODS, JSON, '{"spec":{"priority":' + "1" * 5000 + "}}"),
    "quantity of many digits": ("POST", PODS, JSON, quantity("1" * 1_000_000 + "x")),
    "a name of two megabytes": ("POST", CONFIG, JSON, json.dumps({"metadata": {"name": "a.-" * 700_000}})),
    "a label of two megabytes": ("POST", CONFIG, JSON, json.dumps({"metadata": {"name": "l", "labels": {"a" * 2_000_000: "b"}}})),
    "JSON patch that doubles": ("PATCH", f"{CONFIG}/a", JSON_PATCH, doubling(31)),
    "JSON patch that deepens": ("PATCH", f"{CONFIG}/a", JSON_PATCH, deepening(3_000)),
    "merge patch, nested": ("PATCH", f"{CONFIG}/a", MERGE, '{"a":' * 100_000),
    "strategic patch of many items": (
        "PATCH",
        f"{PODS}/a",
        STRATEGIC,
        json.dumps({"spec": {"containers": [{"name": f"c{i}"} for i in range(45_000)]}}),
    ),
}  # fmt: skip


async def others(http: aiohttp.ClientSession, until: asyncio.Task[Any]) -> float:
    """How long the slowest of small requests took while that one ran."""
    worst = 0.0
    while not until.done():
        begun = time.monotonic()
        async with http.get(f"{CONFIG}/a") as answered:
            assert answered.status == 200, await answered.text()
        worst = max(worst, time.monotonic() - begun)
    return worst


@pytest.mark.slow
async def test_no_body_costs_more_than_it_says(server: Bounded) -> None:
    async with server.session() as http, server.session() as other:

        async def send(method: str, path: str, type_: str, body: str) -> int:
            async with http.request(method, path, data=body.encode(), headers={"Content-Type": type_}) as answered:
                await answered.read()
                return answered.status

        assert await send("POST", CONFIG, JSON, json.dumps({"metadata": {"name": "a"}})) == 201
        pod = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        assert await send("POST", PODS, JSON, json.dumps(pod)) == 201
        for name, (method, path, type_, body) in BODIES.items():
            asking = asyncio.create_task(send(method, path, type_, body))
            waited_s = await asyncio.wait_for(others(other, asking), ANSWER_S)
            assert 400 <= asking.result() < 500, name
            assert waited_s < OTHERS_S, f"{name}: another client waited {waited_s:.1f} s"


async def test_a_node_sends_json_only(server: Bounded) -> None:
    async with server.session("minion-1") as http:
        for type_ in (YAML, "application/vnd.kubernetes.protobuf"):
            async with http.post("/api/v1/nodes", data=b"a: &a [*a]", headers={"Content-Type": type_}) as answered:
                assert answered.status == 403, await answered.text()
