"""The supervisor, in virtual time."""

from __future__ import annotations

import asyncio

from labctl.errors import LabctlError
from labctl.journal import MemoryJournal
from labctl.sim.clock import VirtualClock, run
from labctl.supervisor import Supervisor


def make() -> tuple[Supervisor, VirtualClock, MemoryJournal]:
    clock = VirtualClock()
    journal = MemoryJournal(clock)
    return Supervisor(clock, journal), clock, journal


def test_a_task_that_fails_is_started_again_after_growing_pauses() -> None:
    async def story() -> None:
        supervisor, clock, journal = make()
        begun: list[float] = []

        async def work() -> None:
            begun.append(clock.now())
            raise LabctlError("the disk is full")

        supervisor.run("compaction", work)
        await asyncio.sleep(30)
        pauses = [round(later - earlier, 3) for earlier, later in zip(begun, begun[1:], strict=False)]
        assert pauses[:8] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0]
        assert "compaction ended 9 times and waits for its next start: the disk is full" in supervisor.trouble()
        assert any(line.about == "task/compaction" for line in journal.lines)
        await supervisor.stop()

    run(story())


def test_one_restart_is_shown_and_forgotten_and_no_trouble() -> None:
    async def story() -> None:
        supervisor, _, _ = make()
        failures = [ValueError("once")]

        async def work() -> None:
            if failures:
                raise failures.pop()
            await asyncio.Event().wait()

        supervisor.run("watch", work)
        await asyncio.sleep(1)
        [health] = supervisor.health()
        assert (health.state, health.restarts, health.error) == ("running", 1, "ValueError: once")
        assert health.noteworthy and not supervisor.trouble()
        await asyncio.sleep(301)
        [health] = supervisor.health()
        assert (health.restarts, health.error, health.noteworthy) == (0, "", False)
        await supervisor.stop()

    run(story())


def test_a_task_that_returns_has_finished_and_can_be_run_again() -> None:
    async def story() -> None:
        supervisor, _, _ = make()
        times = []

        async def work() -> None:
            times.append(1)

        for _ in range(2):
            supervisor.run("start", work)
            supervisor.run("start", work)  # while it runs: nothing
            await asyncio.sleep(1)
        assert len(times) == 2
        assert supervisor.health()[0].state == "ended" and not supervisor.health()[0].noteworthy

    run(story())


def test_mistakes_are_counted_and_logged_once() -> None:
    async def story() -> None:
        supervisor, _, journal = make()
        for _ in range(5):
            supervisor.mistake("ssh process", ValueError("what is this?"))
        assert supervisor.health()[0].mistakes == 5
        assert len(journal.lines) == 1
        assert not supervisor.trouble()

    run(story())


def test_names_have_a_bound() -> None:
    async def story() -> None:
        supervisor, _, _ = make()

        async def forever() -> None:
            await asyncio.Event().wait()

        supervisor.run("kept", forever)
        for number in range(1000):
            supervisor.mistake(f"listeners to minion-{number}", "x")
        names = [one.name for one in supervisor.health()]
        assert len(names) == 200 and "kept" in names and "listeners to minion-999" in names
        await supervisor.stop()

    run(story())
