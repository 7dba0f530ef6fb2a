"""An operator on kopf that owns a custom kind: its schema, its status, its children, its peering."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from labctl.resources.client import Client
from tests.client.test_kubectl import ok
from tests.inprocess import ApiServer, ended

pytest.importorskip("kopf")
PATIENCE_S = 40
SHOPS = "shops.example.com"


def definition(plural: str, kind: str, group: str, scope: str, schema: dict[str, Any], **version: Any) -> dict[str, Any]:
    first = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}
    spec = {"group": group, "scope": scope, "names": {"plural": plural, "kind": kind}, "versions": [first]}
    whole = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"{plural}.{group}"}}
    return whole | {"spec": spec}


SHOP = definition(
    "shops",
    "Shop",
    "example.com",
    "Namespaced",
    {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["replicas"],
                "properties": {"replicas": {"type": "integer", "minimum": 0}, "image": {"type": "string"}, "colour": {"type": "string"}},
            },
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    },
    subresources={"status": {}},
)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer.running(tmp_path, controllers=True) as running:
        yield running


@asynccontextmanager
async def operator(api: ApiServer, *arguments: str) -> AsyncIterator[None]:
    script = str(Path(__file__).with_name("owner.py"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kopf", "run", "--namespace=default", "--log-format=plain", *arguments, script,
        env=os.environ | {"KUBECONFIG": str(api.kubeconfig), "NO_PROXY": "127.0.0.1"},
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        await ended(process)


async def until(met: Callable[[], Any]) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        while not (found := met()):
            await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize("peering", [False, True])
async def test_an_operator_owns_its_kind(api: ApiServer, peering: bool) -> None:
    client = Client(api.resources)
    await ok(api, "create", "-f", "-", stdin=SHOP)
    await ok(api, "wait", "--for=condition=Established", f"crd/{SHOPS}", "--timeout=10s")
    arguments = ["--standalone"]
    if peering:
        peers = definition(
            "kopfpeerings", "KopfPeering", "kopf.dev", "Namespaced", {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        )
        await ok(api, "create", "-f", "-", stdin=peers)
        await ok(api, "wait", "--for=condition=Established", "crd/kopfpeerings.kopf.dev", "--timeout=10s")
        await ok(api, "create", "-f", "-", stdin={"apiVersion": "kopf.dev/v1", "kind": "KopfPeering", "metadata": {"name": "default"}})
        arguments = ["--peering=default"]

    def status(name: str) -> Any:
        return (client.raw(SHOPS, "default/a") or {}).get("status", {}).get(name)

    async with operator(api, *arguments):
        await ok(
            api,
            "create",
            "-f",
            "-",
            stdin={"apiVersion": "example.com/v1", "kind": "Shop", "metadata": {"name": "a"}, "spec": {"replicas": 2}},
        )
        await until(lambda: status("child") and status("wanted") == 2)
        [child] = await until(lambda: client.list("deployments.apps", "default"))
        assert child.metadata.controller.kind == "Shop"
        await until(lambda: (status("ticks") or 0) >= 3)
        await ok(api, "patch", "shop", "a", "--type=merge", "-p", '{"spec":{"replicas":3}}')
        await until(lambda: status("wanted") == 3)
        if peering:
            await until(lambda: len(client.raw("kopfpeerings.kopf.dev", "default/default") or {}) > 3)
        await ok(api, "delete", "shop", "a", "--timeout=30s")
        await until(lambda: not client.list("deployments.apps", "default"))
        await until(lambda: {event.reason for event in client.list("events", "default")} >= {"Resized", "Closed"})
