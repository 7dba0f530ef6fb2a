"""The master's address on a machine that can't reach the master: what pods send there goes to our end of the tunnel, a port of this machine's loopback.

Service `kubernetes` needs one endpoint for the whole lab, and pods can't use a loopback that is not theirs. So each machine of such a lab has that one
address itself, on `lo`; the agent listens there and passes bytes on. TLS goes through untouched: the API still sees the pod's own credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Callable

from .helper import commands

LABEL = "lo:labctl"
"""By which `agent clean` finds the address again."""
CONNECTIONS_MAX = 200
CHUNK_BYTES = 64 << 10


RETRY_S = 5.0


async def run(address: str, port: int, say: Callable[[str], None]) -> None:
    """Run until cancelled. If the address can't be had, pods can't reach the API there, and nothing else of this machine suffers."""
    while True:
        try:
            await _serve(address, port)
        except (commands.Failed, OSError) as error:
            say(f"pods can't reach the API: {error}")
        await asyncio.sleep(RETRY_S)


def remove() -> None:
    """Remove the address, for `agent clean`."""
    commands.attempt(["ip", "-4", "address", "flush", "dev", "lo", "label", LABEL])


async def _serve(address: str, port: int) -> None:
    await asyncio.to_thread(commands.run, ["ip", "address", "replace", f"{address}/32", "dev", "lo", "scope", "host", "label", LABEL])
    places = asyncio.Semaphore(CONNECTIONS_MAX)

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with places:
            await _carry(reader, writer, port)

    server = await asyncio.start_server(take, address, port)
    async with server:
        await server.serve_forever()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    with contextlib.suppress(OSError):  # either end went away, or there is no tunnel now: the client sees its connection closed
        try:
            there = await asyncio.open_connection("127.0.0.1", port)
            try:
                await asyncio.gather(_pass_on(reader, there[1]), _pass_on(there[0], writer))
            finally:
                there[1].close()
        finally:
            writer.close()


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(CHUNK_BYTES):
        target.write(data)
        await target.drain()
    target.write_eof()
