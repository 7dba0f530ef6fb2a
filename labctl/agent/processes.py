"""Commands of the machine, run from the loop: bounded output, always a deadline, killed with all they started."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from typing import Mapping, Optional, Sequence

OUTPUT_LIMIT_BYTES = 64 * 1024


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
    """stdout and stderr together. FileNotFoundError if there is no such command."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(env) if env is not None else None,
        cwd=cwd,
        pass_fds=tuple(pass_fds),
        start_new_session=True,
    )
    assert process.stdout is not None
    kept = bytearray()
    try:
        await asyncio.wait_for(_drain(process.stdout, kept), timeout_s)
        return Finished(await asyncio.wait_for(process.wait(), timeout_s), bytes(kept))
    except asyncio.TimeoutError:
        return Finished(None, bytes(kept))
    finally:
        if process.returncode is None:
            _kill_group(process.pid)
            await process.wait()


async def _drain(stream: asyncio.StreamReader, kept: bytearray) -> None:
    while True:
        piece = await stream.read(8192)
        if not piece:
            return
        kept += piece[: OUTPUT_LIMIT_BYTES - len(kept)]


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
