"""One serial worker per machine: never twice at once, wakes come together, one machine's trouble is its own."""

from __future__ import annotations

import asyncio

import pytest

from labctl.clock import SystemClock
from labctl.errors import Unreachable
from labctl.reconcile.workers import Workers


class Works:
    """What is worked on, with gates that hold a machine's work until they are opened."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.now: set[str] = set()
        self.gates: dict[str, asyncio.Event] = {}
        self.errors: dict[str, list[Exception]] = {}
        self.failures: list[tuple[str, str]] = []
        self.workers = Workers(self.work, SystemClock(), self.failed, backoff_min_s=0.01, backoff_max_s=0.05)

    async def work(self, machine: str) -> None:
        assert machine not in self.now, "twice at a time"
        self.now.add(machine)
        self.begun.append(machine)
        try:
            if machine in self.gates:
                await self.gates[machine].wait()
            if self.errors.get(machine):
                raise self.errors[machine].pop(0)
        finally:
            self.now.discard(machine)

    def failed(self, machine: str, error: Exception, again_s: float) -> None:
        self.failures.append((machine, str(error)))

    async def idle(self) -> None:
        async with asyncio.timeout(2):
            while not self.workers.idle:
                await asyncio.sleep(0.001)


@pytest.fixture
async def works():
    made = Works()
    made.workers.start()
    yield made
    await made.workers.stop()


async def test_wakes_while_work_is_under_way_are_one_more_round(works):
    gate = works.gates["a"] = asyncio.Event()
    works.workers.wake("a")
    await asyncio.sleep(0)
    for _ in range(10):
        works.workers.wake("a")
    gate.set()
    await works.idle()
    assert works.begun == ["a", "a"]


async def test_a_machine_that_hangs_delays_no_other(works):
    works.gates["slow"] = asyncio.Event()
    works.workers.wake("slow")
    works.workers.wake("quick")
    async with asyncio.timeout(1):
        while "quick" not in works.begun or works.now != {"slow"}:
            await asyncio.sleep(0.001)


async def test_what_failed_is_tried_again_and_told(works, caplog):
    works.errors["a"] = [Unreachable("gone"), ValueError("our mistake")]
    works.workers.wake("a")
    async with asyncio.timeout(1):
        while works.begun != ["a", "a", "a"]:
            await asyncio.sleep(0.001)
    assert works.failures == [("a", "gone"), ("a", "our mistake")]
    assert "working on a" in caplog.text, "only our own mistakes are logged with their trace"


async def test_nothing_is_begun_before_start_and_nothing_goes_on_after_stop():
    works = Works()
    works.workers.wake("a")
    await asyncio.sleep(0)
    assert works.begun == []
    works.gates["a"] = asyncio.Event()
    works.workers.start()
    await asyncio.sleep(0.001)
    await works.workers.stop()
    assert works.begun == ["a"] and works.now == set()
    works.workers.wake("a")
    await asyncio.sleep(0.001)
    assert works.begun == ["a"]
