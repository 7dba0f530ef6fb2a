"""A blob that is read as it arrives."""

import asyncio
import hashlib
import io

import pytest

from labctl.agent.feed import PIECES_WAITING, Broken, Feed


async def in_thread(work):
    return await asyncio.get_running_loop().run_in_executor(None, work)


async def test_what_is_put_in_comes_out_counted_and_hashed():
    feed = Feed()
    reading = asyncio.ensure_future(in_thread(lambda: io.BufferedReader(feed).read()))
    for piece in (b"one ", b"two ", b"three"):
        await feed.put(piece)
    feed.end()
    assert await reading == b"one two three"
    assert (feed.size, feed.digest) == (13, "sha256:" + hashlib.sha256(b"one two three").hexdigest())


async def test_a_writer_waits_for_a_slow_reader():
    feed = Feed()
    for _ in range(PIECES_WAITING):
        await feed.put(b"x")
    waiting = asyncio.ensure_future(feed.put(b"y"))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await in_thread(lambda: feed.read(1))
    await asyncio.wait_for(waiting, 5)


async def test_a_reader_learns_that_it_broke_off_and_draining_forgives_it():
    feed = Feed()
    await feed.put(b"half")
    feed.end(broken=True)
    with pytest.raises(Broken):
        await in_thread(lambda: io.BufferedReader(feed).read())
    await in_thread(feed.drain)
    assert feed.size == 4
