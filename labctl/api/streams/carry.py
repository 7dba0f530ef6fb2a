"""This module carries one forwarded connection between a client's stream and a pod's port, in both directions, until the pod closes it.

What the client sends before the connection to the pod is made waits in an Inbox of bounded size: when it is full, nothing more is read from the client. After the
connection has ended, its Inbox drops what still comes, so that it does not block other connections of the same client.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from labctl.api.streams import pods
from labctl.errors import LabctlError
from labctl.remote.interface import Remote, Stream
from labctl.resources.kinds.core_v1.pod_view import Pod

INBOX_BYTES = 256 << 10
COMPLAINT_BYTES = 4 << 10
"""More than this of what the agent says about a failure is dropped."""
STDOUT = 1


class Inbox:
    """Holds the bytes that a client sent and the pod has not taken yet. One task puts bytes in, another gets them."""

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._bytes = 0
        self._ended = False  # the client sends no more
        self._closed = False  # nobody reads any more
        self._changed = asyncio.Event()

    async def put(self, data: bytes) -> None:
        """Adds bytes, a part at a time, and waits for room. If nobody reads any more, the bytes are dropped."""
        for start in range(0, len(data), INBOX_BYTES):
            while self._bytes >= INBOX_BYTES and not self._closed:
                await self._wait()
            if self._closed or self._ended:
                return
            part = data[start : start + INBOX_BYTES]
            self._parts.append(part)
            self._bytes += len(part)
            self._changed.set()

    def end(self) -> None:
        self._ended = True
        self._changed.set()

    def close(self) -> None:
        self._closed = True
        self._parts.clear()
        self._changed.set()

    async def get(self) -> bytes:
        """Returns the next bytes; empty bytes at the end."""
        while not self._parts and not self._ended:
            await self._wait()
        if not self._parts:
            return b""
        data = self._parts.popleft()
        self._bytes -= len(data)
        self._changed.set()
        return data

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class Destination:
    """A pod, and the machine on which its ports are reached."""

    def __init__(self, remote: Remote, machine: str, pod: Pod) -> None:
        self._remote = remote
        self._machine = machine
        self._pod = pod

    async def carry(self, port: int, inbox: Inbox, to_client: Callable[[bytes], Awaitable[None]]) -> str:
        """Connects to the port from inside the pod, and carries bytes in both directions until the pod closes. Returns what went wrong, or ""."""
        try:
            problem = await self._carry(port, inbox, to_client)
        except LabctlError as error:
            problem = str(error)
        finally:
            inbox.close()
        named = f"{self._pod.metadata.name}_{self._pod.metadata.namespace}"
        return f"error forwarding port {port} to pod {named}, uid {self._pod.metadata.uid}: {problem}" if problem else ""

    async def _carry(self, port: int, inbox: Inbox, to_client: Callable[[bytes], Awaitable[None]]) -> str:
        stream = await self._remote.open(self._machine, [*pods.AGENT, "forward", "--pod", self._pod.metadata.uid, str(port)])
        sending = asyncio.create_task(_to_pod(inbox, stream))
        complaint = b""
        try:
            async for number, chunk in stream.read():
                if number == STDOUT:
                    await to_client(chunk)
                else:
                    complaint = (complaint + chunk)[:COMPLAINT_BYTES]
            return complaint.decode(errors="replace").strip() if await stream.status() else ""
        finally:
            sending.cancel()
            await stream.close()


async def _to_pod(inbox: Inbox, stream: Stream) -> None:
    while data := await inbox.get():
        await stream.write(data)
    await stream.end_input()
