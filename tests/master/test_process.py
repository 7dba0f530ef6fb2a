"""The master's process while a snapshot's machines are put in their place."""

import asyncio
import os

from labctl.master.process import _wait_for_release


async def test_no_silence_counts_until_the_machines_are_in_place():
    """On a busy host that took minutes, in which no minion could be heard: both were tainted, and their pods left the endpoints."""
    reading, writing = os.pipe()
    told: list[bool] = []
    waiting = asyncio.create_task(_wait_for_release(reading, asyncio.Event(), lambda: told.append(True), every_s=0.001))
    while len(told) < 3:
        await asyncio.sleep(0.001)
    assert not waiting.done()
    os.write(writing, b"g")
    before = len(told)
    assert await waiting and len(told) > before, "and at its end"
    for descriptor in (reading, writing):
        os.close(descriptor)
