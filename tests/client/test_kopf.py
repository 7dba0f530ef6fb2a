"""Other people's controllers: an operator on kopf lists, watches, patches, posts Events and holds objects by a finalizer, and knows no labctl."""

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
from tests.inprocess import ApiServer, ended

pytest.importorskip("kopf")
PATIENCE_S = 30


@asynccontextmanager
async def operator(api: ApiServer) -> AsyncIterator[None]:
    greeter = str(Path(__file__).with_name("greeter.py"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kopf", "run", "--standalone", "--namespace=default", "--log-format=plain", greeter,
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
            await asyncio.sleep(0.02)
    return found


async def test_an_operator_greets_follows_and_lets_go(api: ApiServer) -> None:
    client = Client(api.resources)

    def greeting() -> str:
        return (client.raw("configmaps", "default/a") or {}).get("data", {}).get("greeting", "")

    async with operator(api):
        await client.create("configmaps", {"metadata": {"name": "a", "namespace": "default", "labels": {"greet": "yes"}}})
        await until(lambda: greeting() == "hello")
        await client.patch("configmaps", "default/a", {"data": {"name": "Ada"}})
        await until(lambda: greeting() == "hello Ada")
        assert client.get("configmaps", "default/a").metadata.finalizers == ("example.com/greeter",)
        await client.delete("configmaps", "default/a")
        await until(lambda: client.get("configmaps", "default/a") is None)
        await until(lambda: {event.reason for event in client.list("events", "default")} >= {"Greeted", "Left"})
