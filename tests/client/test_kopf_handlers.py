"""Every kind of handler that kopf has, in one operator: subhandlers, retries, filters, daemons, timers, indexes, probes, resuming, built-in kinds, and admission."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from labctl.certificates import Authority
from labctl.resources.client import Client
from tests.client.test_kopf_custom import definition, until
from tests.client.test_kubectl import ok, refused
from tests.inprocess import ApiServer, ended

pytest.importorskip("kopf")
ROOMS = "rooms.example.com"
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
PATIENCE_S = 60


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, controllers=True) as running:
        kind = definition("rooms", "Room", "example.com", "Namespaced", {"type": "object", "properties": {"spec": OPEN, "status": OPEN}}, subresources={"status": {}})  # fmt: skip
        await ok(running, "create", "-f", "-", stdin=kind)
        await ok(running, "wait", "--for=condition=Established", f"crd/{ROOMS}", "--timeout=10s")
        authority = Authority.create(tmp_path / "hooks")
        authority.server(["localhost"], ["127.0.0.1"])
        yield running


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@asynccontextmanager
async def caretaker(api: ApiServer) -> AsyncIterator[str]:
    """Runs the operator until the block ends, then lets it end in order. Yields the URL of its probes."""
    url = f"http://127.0.0.1:{free_port()}/healthz"
    operator = str(Path(__file__).with_name("caretaker.py"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kopf", "run", "--standalone", "--namespace=default", f"--liveness={url}", operator,
        env=os.environ | {"KUBECONFIG": str(api.kubeconfig), "NO_PROXY": "127.0.0.1,localhost", "CARETAKER_PKI": str(api.directory / "hooks")},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield url
        process.terminate()
        said, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert b"left in order" in said and process.returncode == 0
    finally:
        await ended(process)


def room(name: str = "a", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Room", "metadata": {"name": name}, "spec": spec}


async def hooked(api: ApiServer) -> None:
    """Waits until the operator's webhooks are configured: it writes one configuration after the other."""
    client = Client(api.resources)
    kinds = [f"{kind}webhookconfigurations.admissionregistration.k8s.io" for kind in ("validating", "mutating")]
    await until(lambda: all((client.raw(kind, "caretaker.example.com") or {}).get("webhooks") for kind in kinds))


async def test_handlers_of_every_kind(api: ApiServer) -> None:
    client = Client(api.resources)

    def status() -> dict[str, Any]:
        return (client.raw(ROOMS, "default/a") or {}).get("status", {})

    def reasons() -> set[str]:
        return {event.reason for event in client.list("events", "default")}

    async with caretaker(api) as url:
        await hooked(api)
        await ok(api, "run", "lamp", "--image=busybox", "--labels=lamp=red")
        await ok(api, "create", "-f", "-", stdin=room(items=["table", "chair"]))
        await until(lambda: status().get("counted") == {"done": True})
        assert status()["tries"] == 3 and "filtered" not in status()
        await until(lambda: status().get("furnished/table") and status().get("furnished/chair") and status().get("cleaner"))
        assert client.raw(ROOMS, "default/a")["spec"]["colour"] == "white", "the mutating webhook painted it"
        assert client.raw(ROOMS, "default/a")["metadata"]["finalizers"] == ["example.com/caretaker"]
        await ok(api, "patch", "room", "a", "--type=merge", "-p", '{"spec":{"colour":"red"}}')
        await until(lambda: status().get("repainted") == "change" and status().get("lamps") == ["lamp"])
        async with aiohttp.ClientSession() as http, http.get(url) as probed:
            assert await probed.json() == {"lamps": ["lamp"]}
        await ok(api, "delete", "pod", "lamp", "--grace-period=1", "--wait=false")
        await until(lambda: "Dark" in reasons())
    for kind in ("validating", "mutating"):
        kept = client.raw(f"{kind}webhookconfigurations.admissionregistration.k8s.io", "caretaker.example.com")
        assert not (kept or {}).get("webhooks"), "an operator that ends takes its webhooks along"
    before = status().get("resumed", 0)
    async with caretaker(api):
        await until(lambda: status().get("resumed", 0) == before + 1)
        await until(lambda: "lamps" in status() and not status()["lamps"])
        await ok(api, "delete", "room", "a", "--timeout=40s")
        await until(lambda: "Swept" in reasons())


async def test_its_webhooks_are_asked(api: ApiServer) -> None:
    async with caretaker(api):
        await hooked(api)
        ran = await api.kubectl("create", "-f", "-", stdin=room())
        assert ran.code == 0 and "Warning: the caretaker was asked" in ran.err
        said = await refused(api, "patch", "room", "a", "--type=merge", "-p", '{"spec":{"colour":"black"}}')
        assert 'admission webhook "not-haunted.caretaker.example.com" denied the request: no black rooms' in said
        practised = await api.kubectl("create", "--dry-run=server", "-f", "-", stdin=room("b"))
        assert practised.code == 0 and "asked for practice" in practised.err
        said = await refused(api, "patch", "room", "a", "--subresource=status", "--type=merge", "-p", '{"status":{"water":"deep"}}')
        assert "a room is dry" in said
        assert "water" not in json.loads(await ok(api, "get", "room", "a", "-o", "json")).get("status", {})
        await ok(api, "delete", "room", "a", "--timeout=40s")
