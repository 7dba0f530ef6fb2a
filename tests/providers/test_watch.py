"""A watch during other processes' operations, on a machine's folder alone: no root, no namespace."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.providers import locks
from labctl.providers.namespace.cgroup import V1
from labctl.providers.namespace.inside import plan
from labctl.providers.namespace.lab import LabInit
from labctl.providers.namespace.machine import NamespaceMachine
from labctl.providers.namespace.watch import Watcher
from labctl.providers.protocol import MachineEvent, Power
from labctl.providers.settings import NamespaceSettings

BOOT = plan.BootPlan("minion-1", "boot-1", 0, "", "", "m1-x", "10.245.1.11", 24, "10.245.1.1", 1500, 1.0, plan.CgroupPlan([], [], [], []))


class Watched:
    """A machine's folder, a watch on it, and what it told."""

    def __init__(self, state: Path) -> None:
        settings, cgroups = NamespaceSettings(), V1("lab", {"freezer": state / "no-freezer"})
        self.machine = NamespaceMachine(state, "minion-1", LabInit(state, settings, cgroups), cgroups, settings)
        self.machine.folder.mkdir(parents=True)
        self.lock = state / "locks" / "machine-minion-1"
        self.told: list[MachineEvent] = []
        self._looked = threading.Semaphore(0)
        self.watcher: Watcher | None = None

    def begin(self) -> None:
        self.watcher = Watcher(self._machines, self.told.append, rescan_s=60)
        self._looked.acquire(timeout=5)
        self.look()

    def look(self) -> None:
        """Have it look twice: the first look may have begun before what the test did."""
        assert self.watcher
        for _ in range(2):
            self.watcher.wake()
            assert self._looked.acquire(timeout=5)

    def write(self, boot: plan.BootPlan) -> None:
        new = self.machine.folder / "boot.new"
        new.write_text(plan.dump(boot))
        new.rename(self.machine.folder / "boot.json")

    def _machines(self) -> dict[str, NamespaceMachine]:
        self._looked.release()
        return {"minion-1": self.machine}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    if made.watcher:
        made.watcher.stop()


def test_a_boot_that_is_just_starting_is_not_told_dead(watched: Watched) -> None:
    watched.begin()
    with locks.exclusive(watched.lock):
        watched.write(BOOT)
        watched.look()
        assert watched.told == []
    watched.look()
    watched.watcher.stop()
    assert watched.told == [MachineEvent("minion-1", Power.OFF, "boot-1", "its init was killed", False)]


def test_a_boot_that_came_and_went_between_two_looks_is_told(watched: Watched) -> None:
    watched.write(BOOT)
    watched.begin()
    watched.write(dataclasses.replace(BOOT, boot_id="boot-2"))
    watched.look()
    watched.watcher.stop()
    assert [event.boot_id for event in watched.told] == ["boot-1", "boot-2"]


def test_what_ended_a_boot_is_told_only_of_that_boot(watched: Watched) -> None:
    watched.write(BOOT)
    (watched.machine.folder / "ended.json").write_text('{"boot_id": "boot-0", "reason": "halted", "intended": true}')
    watched.begin()
    watched.look()
    watched.watcher.stop()
    assert watched.told == [MachineEvent("minion-1", Power.OFF, "boot-1", "its init was killed", False)]


def test_a_listeners_mistake_costs_nobody_the_next_event(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)
    watched.told = Refusing()
    watched.write(BOOT)
    watched.begin()
    watched.write(dataclasses.replace(BOOT, boot_id="boot-2"))
    watched.look()
    watched.watcher.stop()
    assert (len(shown), [event.boot_id for event in watched.told]) == (1, ["boot-2"])


class Refusing(list[MachineEvent]):
    """Fails on the first event."""

    failed = False

    def append(self, event: MachineEvent) -> None:
        if not self.failed:
            self.failed = True
            raise RuntimeError("no")
        super().append(event)


def test_damaged_files_count_as_none(watched: Watched) -> None:
    for name in ("boot.json", "spec.json", "ended.json"):
        (watched.machine.folder / name).write_text("")
    assert (watched.machine.boot(), watched.machine.spec(), watched.machine.ended()) == (None, None, None)
    watched.begin()
    watched.look()
    assert watched.told == []
