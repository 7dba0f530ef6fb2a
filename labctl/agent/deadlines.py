"""Waiting no longer than a time, without losing a cancellation."""

from __future__ import annotations

import asyncio
from typing import Awaitable, Callable, Optional, Tuple, TypeVar

T = TypeVar("T")


async def wait_for(awaitable: Awaitable[T], timeout_s: Optional[float], let_go: Optional[Callable[[T], None]] = None) -> T:
    """Return what comes within so many seconds; raise asyncio.TimeoutError otherwise, when what was waited for has been cancelled and has ended.

    asyncio's own function drops a cancellation of the caller that comes in the same moment as the result (until Python 3.12; CPython issue 86296). A loop
    that asks a container again and again then never ended: what kills the container ends both its connection and its prober.

    A result that comes in the same moment as a cancellation is taken by nobody. If it holds something open, as a connection, `let_go` closes it.
    """
    future = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait({future}, timeout=timeout_s)
    except asyncio.CancelledError:
        await _cancelled(future)
        if let_go and not future.cancelled() and future.exception() is None:
            let_go(future.result())
        raise
    if not future.done():
        await _cancelled(future)
        if future.cancelled():
            raise asyncio.TimeoutError
    return future.result()


async def connect(host: str, port: int, timeout_s: Optional[float]) -> Tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a TCP connection. Raises OSError, asyncio.TimeoutError."""
    return await wait_for(asyncio.open_connection(host, port), timeout_s, lambda opened: opened[1].close())


async def _cancelled(future: asyncio.Future[T]) -> None:
    """Cancel it and wait until it has ended, however it ends."""
    if not future.done():
        future.cancel()
        await asyncio.wait({future})
    if not future.cancelled():
        future.exception()  # else asyncio would log that nobody has looked at it
