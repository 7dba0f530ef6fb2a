"""A watch during other processes' operations, on a machine's folder alone: no root, no namespace."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
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
        self.watcher = Watcher(self._machines, lambda: True, self.told.append, rescan_s=60)
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
    watched.write(BOOT._replace(boot_id="boot-2"))
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


def test_a_machine_whose_folder_is_gone_was_destroyed(watched: Watched) -> None:
    """Its end is seen after its folder was put away, and before the list of machines is read again."""
    watched.begin()
    init = os.pidfd_open(os.getpid())
    watched.write(BOOT)
    watched.watcher._on(watched.machine, init)
    watched.machine.folder.rename(watched.machine.folder.with_name("gone"))
    watched.watcher._off(watched.machine, "boot-1")
    watched.watcher.stop()
    watched.watcher._tell_all()
    assert watched.told[-1] == MachineEvent("minion-1", Power.OFF, "boot-1", "it was destroyed", intended=True)


def test_a_listeners_mistake_costs_nobody_the_next_event(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)
    watched.told = Refusing()
    watched.write(BOOT)
    watched.begin()
    watched.write(BOOT._replace(boot_id="boot-2"))
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


class Lab:
    """Two machines and the lab's init, each a process that holds its lock, and a watch on them."""

    def __init__(self, state: Path, together_s: float) -> None:
        settings, cgroups = NamespaceSettings(), V1("lab", {"freezer": state / "no-freezer"})
        self._lab = LabInit(state, settings, cgroups)
        self._machines = {name: NamespaceMachine(state, name, self._lab, cgroups, settings) for name in ("minion-1", "minion-2")}
        self.processes: dict[str, subprocess.Popen[str]] = {"init": self._hold(self._lab.alive)}
        for name, machine in self._machines.items():
            machine.folder.mkdir(parents=True)
            (machine.folder / "boot.json").write_text(plan.dump(BOOT._replace(name=name)))
            self.processes[name] = self._hold(machine.alive)
        self._looked = threading.Semaphore(0)
        self._told: list[MachineEvent] = []
        self._watcher = Watcher(self._read, lambda: self._lab.pid() != 0, self._told.append, 60, together_s)

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].communicate()

    def ends(self) -> list[str]:
        """Return which ends were told, after the watch has looked twice: what the first look finds is told or kept back before the second."""
        while self._looked.acquire(blocking=False):
            pass
        for _ in range(2):
            self._watcher.wake()
            assert self._looked.acquire(timeout=5)
        return sorted(event.name for event in self._told if event.power is Power.OFF)

    def close(self) -> None:
        self._watcher.stop()
        for name in self.processes:
            self.kill(name)

    def _read(self) -> dict[str, NamespaceMachine]:
        self._looked.release()
        return self._machines

    def _hold(self, path: Path) -> subprocess.Popen[str]:
        path.parent.mkdir(parents=True, exist_ok=True)
        program = "import sys; from labctl.providers import locks; locks.hold(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
        argv = [sys.executable, "-c", program, path]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout and process.stdout.readline() == "held\n"
        return process


@pytest.fixture
def new_lab(tmp_path: Path) -> Iterator[Callable[[float], Lab]]:
    made: list[Lab] = []

    def make(together_s: float) -> Lab:
        made.append(Lab(tmp_path, together_s))
        return made[-1]

    yield make
    for lab in made:
        lab.close()


@pytest.mark.parametrize("first, last", [("minion-1", "minion-2"), ("minion-2", "minion-1")])
def test_machines_that_end_with_the_labs_init_are_told_together(new_lab: Callable[[float], Lab], first: str, last: str) -> None:
    lab = new_lab(600)
    lab.kill("init")
    lab.kill(first)
    assert lab.ends() == [], "the kernel has ended one of them, and ends the other"
    lab.kill(last)
    assert lab.ends() == ["minion-1", "minion-2"]


def test_a_machine_that_ends_alone_is_told_at_once(new_lab: Callable[[float], Lab]) -> None:
    lab = new_lab(600)
    lab.kill("minion-2")
    assert lab.ends() == ["minion-2"]


def test_an_end_is_kept_back_for_a_bounded_time(new_lab: Callable[[float], Lab]) -> None:
    lab = new_lab(0)
    lab.kill("init")
    lab.kill("minion-2")
    assert lab.ends() == ["minion-2"]
