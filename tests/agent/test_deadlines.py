"""Waiting with a bound: what comes, what does not come, and a cancellation in the very moment in which it comes."""

import asyncio

import pytest

from labctl.agent.deadlines import wait_for


async def test_what_comes_in_time_is_returned_and_what_fails_is_raised():
    async def fail():
        raise OSError("no")

    assert await wait_for(asyncio.sleep(0, "came"), 5) == "came"
    with pytest.raises(OSError, match="no"):
        await wait_for(fail(), 5)


async def test_what_does_not_come_is_cancelled_and_has_ended():
    ended = []

    async def never():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    with pytest.raises(asyncio.TimeoutError):
        await wait_for(never(), 0)
    with pytest.raises(asyncio.TimeoutError):
        await wait_for(never(), 0.01)
    assert ended


@pytest.mark.parametrize("failed", [False, True])
async def test_a_cancellation_in_the_moment_of_the_result_is_kept(failed):
    answer = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(wait_for(answer, 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    if failed:
        answer.set_exception(ConnectionResetError())
    else:
        answer.set_result("came")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_who_is_cancelled_leaves_nothing_running():
    inner = asyncio.create_task(asyncio.sleep(60))
    waiting = asyncio.create_task(wait_for(inner, 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert inner.cancelled()
