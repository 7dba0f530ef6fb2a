"""A lab of one fake minion for the streams: its agent answers exec, attach, logs and forward as the real one does, and its pods' ports answer HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from labctl.remote.interface import Target
from labctl.resources.usage import NoUsage, UsageReader
from labctl.sim.remote import FakeHost, FakeRemote, Program, Shell
from tests.inprocess import ApiServer

ADDRESS, POD_IP = "10.245.1.11", "10.246.1.2"
ENDPOINT = {"ip": POD_IP, "nodeName": "minion-1", "targetRef": {"kind": "Pod", "namespace": "default", "name": "web"}}


async def agent(shell: Shell) -> int:
    """`/usr/bin/python3 /opt/labctl/agent VERB --pod UID --container NAME ...`"""
    verb, rest = shell.argv[2], shell.argv[3:]
    if verb == "exec":
        return await _exec(shell, rest[rest.index("--") + 1 :])
    if verb == "attach":
        await shell.write(b"attached\n")
        while part := await shell.read():
            await shell.write(part.upper())
        return 0
    if verb == "forward":
        return await _forward(shell, int(rest[-1]))
    return await _logs(shell, rest)


async def _forward(shell: Shell, port: int) -> int:
    program = shell.host.ports.get((POD_IP, port))
    if program is None:
        await shell.write(f"failed to connect to localhost:{port}: connect: connection refused\n".encode(), 2)
        return 125
    return await program(shell)


async def _exec(shell: Shell, command: list[str]) -> int:
    match command:
        case ["echo", *words]:
            await shell.write(" ".join(words).encode() + b"\n")
        case ["cat"]:
            while part := await shell.read():
                await shell.write(part)
        case ["keep", path]:
            kept = b""
            while part := await shell.read():
                await asyncio.sleep(0.001)  # slower than its input comes
                kept += part
            shell.host.files[path] = kept
        case ["complain"]:
            await shell.write(b"out\n")
            await shell.write(b"err\n", 2)
            return 3
        case ["size"]:
            while len(shell.sizes) < 1:
                await asyncio.sleep(0.001)
            await shell.write(f"{shell.sizes[-1]} {shell.terminal is not None}\n".encode())
        case ["yes"]:
            while True:
                await shell.write(b"y\n" * 1000)
        case _:
            await shell.write(f'exec: "{command[0]}": executable file not found in $PATH\n'.encode(), 2)
            return 127
    return 0


async def _logs(shell: Shell, options: list[str]) -> int:
    if "--previous" in options:
        await shell.write(b"the agent says no\n", 2)
        return 125
    tail = int(options[options.index("--tail") + 1]) if "--tail" in options else 3
    for number in range(3 - tail, 3):
        await shell.write(f"line {number}\n".encode())
    if "--timestamps" in options:  # as the agent: both of the container's outputs, in order
        await shell.write(b"from its standard error\n")
    while "--follow" in options:
        await asyncio.sleep(0.01)
        await shell.write(b"more\n")
    return 0


def http(answer: Callable[[str, dict[str, str], bytes], tuple[str, bytes]]) -> Program:
    """A pod's port: `answer(request line, headers, body)` gives (status and headers, body)."""

    async def program(shell: Shell) -> int:
        data = b""
        while b"\r\n\r\n" not in data:
            part = await shell.read()
            if not part:
                return 0
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        line, *rest = head.decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (text.partition(":") for text in rest)}
        while len(body) < int(headers.get("content-length", 0)):
            body += await shell.read()
        status, said = answer(line, headers, body)
        await shell.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(said)}\r\n\r\n".encode() + said)
        return 0

    return program


async def echo(shell: Shell) -> int:
    while part := await shell.read():
        await shell.write(part)
    return 0


def to_loopback(port: int) -> Program:
    """A pod's port that is a server of the test's own on loopback."""

    async def program(shell: Shell) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def up() -> None:
            while part := await shell.read():
                writer.write(part)

        sending = asyncio.create_task(up())
        try:
            while part := await reader.read(1 << 16):
                await shell.write(part)
        finally:
            sending.cancel()
            writer.close()
        return 0

    return program


def running(name: str, *containers: str, phase: str = "Running") -> dict[str, Any]:
    """What the agent would report of a pod that runs."""
    statuses = [{"name": c, "ready": True, "restartCount": 0, "image": "x", "imageID": "", "state": {"running": {}}} for c in containers]
    return {"phase": phase, "podIP": POD_IP, "podIPs": [{"ip": POD_IP}], "containerStatuses": statuses}


@asynccontextmanager
async def lab(directory: Path, usage: UsageReader | None = None) -> AsyncIterator[tuple[ApiServer, FakeHost, FakeRemote]]:
    """An API server with minion-1 behind it, and a pod `web` that runs there."""
    host = FakeHost(programs={"python3": agent})
    remote = FakeRemote({ADDRESS: host})
    await remote.connect(Target("minion-1", ADDRESS, 22, "root", "", host.host_key))
    async with ApiServer.running(directory, remote=remote, usage=usage or NoUsage()) as api:
        await create(api, "nodes", {"metadata": {"name": "minion-1"}, "spec": {"podCIDR": "10.246.1.0/24"}})
        await make_pod(api, "web", "nginx")
        yield api, host, remote


async def create(api: ApiServer, resource: str, body: dict[str, Any], namespace: str = "default") -> None:
    kind = api.resources.registry[resource]
    await api.resources.create(kind, namespace if kind.namespaced else "", body)


async def make_pod(api: ApiServer, name: str, *containers: str, node: str = "minion-1", status: dict[str, Any] | None = None) -> None:
    listed = [{"name": c, "image": "x", "ports": [{"containerPort": 80}]} for c in containers]
    spec = {"containers": listed, **({"nodeName": node} if node else {})}
    await create(api, "pods", {"metadata": {"name": name, "labels": {"name": "nginx"}}, "spec": spec})
    reported = running(name, *containers) if status is None else status
    merge = "application/merge-patch+json"
    await api.resources.patch(api.resources.registry["pods"], "default", name, {"status": reported}, merge, subresource="status")
