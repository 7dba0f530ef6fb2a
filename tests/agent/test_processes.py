"""Commands that the agent runs: what a container writes is bounded in memory, and never holds the agent's loop."""

import asyncio
import os
import time

from labctl.agent import processes

SHOUTS = ["sh", "-c", "for i in 1 2 3 4; do dd if=/dev/zero bs=64k status=none & done; wait"]


async def test_what_writes_without_end_ends_at_its_deadline_with_bounded_output():
    begun_s = time.monotonic()
    ran = await processes.run(SHOUTS, timeout_s=0.3)
    assert ran.status is None and ran.output == bytes(processes.OUTPUT_LIMIT_BYTES)
    assert time.monotonic() - begun_s < 10


async def test_a_pipe_that_is_never_empty_gives_the_loop_back(monkeypatch):
    """As with more writers than the agent can keep up with."""
    kept, asked = bytearray(), []

    def read(_descriptor, size):
        asked.append(size)
        assert len(asked) < 1000
        return b"x" * size

    monkeypatch.setattr(os, "read", read)
    processes._take(-1, kept)
    assert len(kept) == processes.OUTPUT_LIMIT_BYTES


async def test_the_end_of_the_output_is_no_end_of_the_command():
    ran = await processes.run(["sh", "-c", "echo out; echo err >&2; exec >&- 2>&-; sleep 0.1; exit 3"])
    assert ran == processes.Finished(3, b"out\nerr\n")
    assert await asyncio.wait_for(processes.run(["sh", "-c", "sleep 60 & echo left"]), 10) == processes.Finished(0, b"left\n")
