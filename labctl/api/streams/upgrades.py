"""Passes requests on that change the protocol (WebSocket, SPDY/3.1): to pods and Services behind the proxy, and to aggregated API servers.

The request's head is sent on, the server's head comes back, and from then on bytes are copied both ways, whatever they mean, until either side ends. What
was read and not taken yet is bounded in both directions: then the sender has to wait. A server that refuses has its answer passed on, and the connection
ends with it; one that answers anything else, as a redirect, does not reach the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from http import HTTPStatus

from aiohttp import ClientConnectionResetError, web

from labctl.api import answer, status
from labctl.api.call import Call
from labctl.errors import LabctlError

HEAD_BYTES_MAX = 64 << 10
HEAD_S = 30.0  # for the server to say whether it changes the protocol
REFUSAL_S = 30.0  # for the rest of an answer that refuses
SWITCHING = HTTPStatus.SWITCHING_PROTOCOLS
_CHUNK = 64 << 10
_NEWLINES = frozenset("\r\n\0")
_END = b"\r\n\r\n"

Headers = Sequence[tuple[str, str]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class NotUpgraded(LabctlError):
    """The answer to a request that changes the protocol is none that may reach the client."""


def wants_upgrade(headers: Mapping[str, str]) -> bool:
    return "upgrade" in headers.get("Connection", "").lower() and bool(headers.get("Upgrade"))


async def upgraded(
    call: Call, host: str, target: str, headers: Headers, connection: AbstractAsyncContextManager[Streams], dial_s: float
) -> web.StreamResponse:
    """Answer a request that changes the protocol. `target` is what stands in the request's first line; the connection's reader holds HEAD_BYTES_MAX.

    Raises what `connection` raises when it is entered, and NotUpgraded, OSError and TimeoutError before the server's head has come.
    """
    if call.request.can_read_body:
        raise status.bad_request("a request that changes the protocol has no body")
    head = _request_head(call, host, target, headers)
    async with _within(call, dial_s) as deadline, connection as (reader, writer):
        deadline.reschedule(asyncio.get_running_loop().time() + HEAD_S)
        writer.write(head)
        try:
            answered = await reader.readuntil(_END)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise NotUpgraded(f"the answer to a request that changes the protocol is no HTTP: {error}") from None
        code = _code(answered)
        if code != SWITCHING and code < HTTPStatus.BAD_REQUEST:
            raise NotUpgraded(f"invalid upgrade response: status code {code}")
        changed = code == SWITCHING
        deadline.reschedule(None)
        ours = call.connection.take_over()
        with suppress(ConnectionError, TimeoutError):
            await _send(call, answered if changed else _with_close(answered))
            async with asyncio.timeout(None if changed else REFUSAL_S):
                await _either(_copy(ours, lambda data: _write(writer, data)), _copy(reader, lambda data: _send(call, data)))
    return answer.NoResponse()


@asynccontextmanager
async def _within(call: Call, seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """Yield a deadline; what is under way ends earlier if the client disconnects or the server stops."""
    with call.connection.streaming():
        async with asyncio.timeout(seconds) as deadline:
            yield deadline


def _request_head(call: Call, host: str, target: str, headers: Headers) -> bytes:
    """Return the request's head as it is sent on. Raises 400 for a header that could be read as two: a user's name may come from a certificate."""
    told = [("Host", host), ("Connection", "Upgrade"), ("Upgrade", call.request.headers["Upgrade"]), *headers]
    if any(_NEWLINES & {*name, *value} for name, value in told):
        raise status.bad_request("a header has a line break in it")
    lines = [f"{call.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in told)]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + _END


def _code(head: bytes) -> int:
    """Return the status code of an answer's head. Raises NotUpgraded if it has none."""
    version, _, rest = head.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise NotUpgraded("the answer to a request that changes the protocol is no HTTP")
    return int(rest[:3])


def _with_close(head: bytes) -> bytes:
    """Return the head of an answer after which the connection ends: so the client needs no other sign of its end."""
    first, *lines = head.removesuffix(_END).split(b"\r\n")
    kept = [line for line in lines if line.partition(b":")[0].strip().lower() not in (b"connection", b"keep-alive", b"upgrade")]
    return b"\r\n".join((first, *kept, b"Connection: close")) + _END


async def _either(*copying: Awaitable[None]) -> None:
    """Wait until one of them has ended, and end the others."""
    tasks = [asyncio.ensure_future(each) for each in copying]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, write: Callable[[bytes], Awaitable[None]]) -> None:
    while data := await reader.read(_CHUNK):
        await write(data)


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _send(call: Call, data: bytes) -> None:
    """Send bytes to the client, and wait while it takes them. Raises ClientConnectionResetError if it has disconnected."""
    transport = call.request.transport
    if transport is None or transport.is_closing():
        raise ClientConnectionResetError("the client is gone")
    transport.write(data)
    await call.request.writer.drain()
