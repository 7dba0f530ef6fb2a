"""Commands of the machine, run from the loop: bounded output, always a deadline, killed with all they started.

Not asyncio's subprocess: that waits until nobody holds the output pipe any more, and what a command left behind inside a container may hold it for ever.
A pidfd tells the end; what was written until then is the output.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import Mapping, Optional, Sequence

from .deadlines import wait_for

OUTPUT_LIMIT_BYTES = 64 * 1024
_PIECE_BYTES = 16 * 1024
_PIECES_AT_ONCE = 16


@dataclass(frozen=True)
class Finished:
    """`status` is the exit status, minus the signal's number, or None when the deadline killed it."""

    status: Optional[int]
    output: bytes


async def run(
    argv: Sequence[str],
    *,
    timeout_s: float = 30.0,
    env: Optional[Mapping[str, str]] = None,
    cwd: Optional[str] = None,
    pass_fds: Sequence[int] = (),
) -> Finished:
    """Run a command and return stdout and stderr together. Raises FileNotFoundError if there is no such command."""
    output, its_end = os.pipe()
    os.set_blocking(output, False)
    try:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=its_end, stderr=its_end, env=env, cwd=cwd, pass_fds=pass_fds, start_new_session=True
        )
    except BaseException:
        os.close(output)
        raise
    finally:
        os.close(its_end)
    kept = bytearray()
    loop = asyncio.get_running_loop()
    try:
        loop.add_reader(output, _take, output, kept)
        in_time = await _ends(child.pid, timeout_s)
        if not in_time:
            _kill_group(child.pid)
        status = child.wait()  # at once: it has ended, or was killed
        _take(output, kept)
        return Finished(status if in_time else None, bytes(kept))
    finally:
        if child.returncode is None:  # cancelled
            _kill_group(child.pid)
            child.wait()
        loop.remove_reader(output)
        os.close(output)


async def _ends(pid: int, timeout_s: float) -> bool:
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    descriptor = os.pidfd_open(pid)

    def tell() -> None:
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(descriptor, tell)
    try:
        await wait_for(ended, timeout_s)
        return True
    except asyncio.TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _take(descriptor: int, kept: bytearray) -> None:
    """Read what is there now. What is over the limit is dropped, so that the writer never waits.

    The loop calls again while there is more: a container that writes as fast as it is read would otherwise hold the agent.
    """
    for _ in range(_PIECES_AT_ONCE):
        try:
            piece = os.read(descriptor, _PIECE_BYTES)
        except BlockingIOError:
            return
        if not piece:
            asyncio.get_running_loop().remove_reader(descriptor)
            return
        kept += piece[: OUTPUT_LIMIT_BYTES - len(kept)]


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
