"""This module runs work on large bodies in a thread, so that the server can answer other requests meanwhile.

Python's threads share one interpreter, but it changes hands every 5 ms; on the event loop a body of 3 MB would hold everybody up until it is done.
There is one such thread: large bodies take turns. What runs there must be a pure function of its arguments: it reads no store and no clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

LARGE_BYTES = 64 << 10
"""A body above this is read in the thread; one below it takes a few milliseconds at most."""

_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-bodies")

P = ParamSpec("P")
T = TypeVar("T")


async def offload_if_large(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs `work` and returns its result: in the thread if `size`, the number of bytes that it works on, is large; otherwise at once."""
    if size <= LARGE_BYTES:
        return work(*args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_thread, partial(work, *args, **kwargs))
