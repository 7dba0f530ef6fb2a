"""What a watch of virtual machines tells, driven by what libvirt would say."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from labctl.errors import ProviderError
from labctl.providers import locks
from labctl.providers.protocol import Machine, MachineEvent, Power
from labctl.providers.vagrant.machine import Boot, End, VagrantMachine
from labctl.providers.vagrant.watch import Watcher

SOON_S = 5.0
ONE = Machine("minion-1", Power.ON, "10.245.1.11", boot_id="boot-a")


class Libvirt:
    """A host whose machines are a dict, and whose libvirtd says what the test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machines: dict[str, Machine] = {}
        self.away = False
        self.deaf = False
        self.say: Callable[[str, str, str], None] = lambda *_said: None
        self.listeners = 0
        self.looks = 0
        self.events: list[MachineEvent] = []
        self._changed = threading.Condition()

    def read(self) -> dict[str, Machine]:
        with self._changed:
            self.looks += 1
            self._changed.notify_all()
        if self.away:
            raise ProviderError("libvirtd is not running")
        return dict(self.machines)

    def remembered(self, name: str) -> VagrantMachine:
        return VagrantMachine(self.folder / "machines" / name)

    def listen(self, tell: Callable[[str, str, str], None]) -> Callable[[], None]:
        if self.deaf:
            raise ProviderError("libvirtd is not running")
        self.say, self.listeners = tell, self.listeners + 1
        return lambda: None

    def tell(self, event: MachineEvent) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, count: int) -> list[MachineEvent]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.events) >= count, SOON_S), self.events
            return list(self.events)

    def look(self, watcher: Watcher) -> None:
        """Return when a look that began after this call is over."""
        with self._changed:
            before = self.looks
        watcher.wake()
        watcher.wake()
        with self._changed:
            assert self._changed.wait_for(lambda: self.looks >= before + 2, SOON_S)


@pytest.fixture
def libvirt(tmp_path: Path) -> Libvirt:
    return Libvirt(tmp_path)


@pytest.fixture
def watch(libvirt: Libvirt):
    watchers: list[Watcher] = []

    def make() -> Watcher:
        watchers.append(Watcher(libvirt.read, libvirt.remembered, libvirt.listen, libvirt.tell, rescan_s=0.05))
        return watchers[-1]

    yield make
    for watcher in watchers:
        watcher.stop()


def test_the_present_state_is_told_once(libvirt: Libvirt, watch) -> None:
    libvirt.machines = {"minion-1": ONE}
    watcher = watch()
    libvirt.look(watcher)
    assert [(e.name, e.power, e.boot_id) for e in libvirt.events] == [("minion-1", Power.ON, "boot-a")]


def test_an_end_is_told_with_its_boot_and_libvirts_reason(libvirt: Libvirt, watch) -> None:
    libvirt.machines = {"minion-1": ONE}
    watch()
    libvirt.wait(1)
    libvirt.machines = {"minion-1": msgspec.structs.replace(ONE, power=Power.OFF, boot_id="")}
    libvirt.say("minion-1", "stopped", "its QEMU process crashed")
    off = libvirt.wait(2)[1]
    assert off == MachineEvent("minion-1", Power.OFF, "boot-a", "its QEMU process crashed", intended=False)


def test_an_end_that_was_asked_for_is_told_as_that(libvirt: Libvirt, watch) -> None:
    libvirt.machines = {"minion-1": ONE}
    watch()
    libvirt.wait(1)
    libvirt.remembered("minion-1").keep(End("boot-a", "it was halted", intended=True))
    libvirt.machines = {"minion-1": msgspec.structs.replace(ONE, power=Power.OFF, boot_id="")}
    libvirt.say("minion-1", "stopped", "it shut itself down")
    assert libvirt.wait(2)[1] == MachineEvent("minion-1", Power.OFF, "boot-a", "it was halted", intended=True)


def test_the_end_of_an_earlier_boot_excuses_no_later_one(libvirt: Libvirt, watch) -> None:
    libvirt.remembered("minion-1").keep(End("boot-0", "it was halted", intended=True))
    libvirt.machines = {"minion-1": ONE}
    watch()
    libvirt.wait(1)
    libvirt.machines = {"minion-1": msgspec.structs.replace(ONE, power=Power.OFF, boot_id="")}
    libvirt.say("minion-1", "stopped", "its power was cut")
    assert not libvirt.wait(2)[1].intended


def test_a_reboot_ends_one_boot_and_forgets_it(libvirt: Libvirt, watch) -> None:
    libvirt.machines = {"minion-1": ONE}
    libvirt.remembered("minion-1").keep(Boot("boot-a", "run"))
    watcher = watch()
    libvirt.wait(1)
    libvirt.machines = {"minion-1": msgspec.structs.replace(ONE, power=Power.OFF, boot_id="")}  # until its sshd answers
    libvirt.say("minion-1", "rebooted", "its kernel was started again")
    assert libvirt.wait(2)[1].boot_id == "boot-a"
    libvirt.look(watcher)
    assert libvirt.remembered("minion-1").boot() is None
    libvirt.machines = {"minion-1": msgspec.structs.replace(ONE, boot_id="boot-b")}
    assert [(e.power, e.boot_id) for e in libvirt.wait(3)] == [(Power.ON, "boot-a"), (Power.OFF, "boot-a"), (Power.ON, "boot-b")]


def test_pause_and_resume(libvirt: Libvirt, watch) -> None:
    libvirt.machines = {"minion-1": ONE}
    watch()
    libvirt.wait(1)
    libvirt.machines = {"minion-1": msgspec.structs.replace(ONE, power=Power.PAUSED)}
    libvirt.wait(2)
    libvirt.machines = {"minion-1": ONE}
    assert [event.power for event in libvirt.wait(3)] == [Power.ON, Power.PAUSED, Power.ON]


def test_a_libvirtd_that_is_away_is_no_death(libvirt: Libvirt, watch) -> None:
    libvirt.machines = {"minion-1": ONE}
    watcher = watch()
    libvirt.wait(1)
    libvirt.away = True
    libvirt.look(watcher)
    assert len(libvirt.events) == 1
    libvirt.away = False
    libvirt.look(watcher)
    libvirt.look(watcher)
    assert len(libvirt.events) == 1 and libvirt.listeners == 1


def test_a_libvirtd_that_comes_late_is_listened_to(libvirt: Libvirt, watch) -> None:
    libvirt.deaf = True
    libvirt.machines = {"minion-1": ONE}
    watch()
    assert libvirt.events == []
    libvirt.deaf = False
    libvirt.wait(1)
    libvirt.say("minion-1", "stopped", "its power was cut")
    assert libvirt.wait(2)[1].power is Power.OFF


def test_what_is_off_at_the_first_look_is_told_with_its_last_boot_unless_it_is_just_booting(libvirt: Libvirt, watch) -> None:
    off = msgspec.structs.replace(ONE, power=Power.OFF, boot_id="")
    libvirt.machines = {"minion-1": off, "minion-2": msgspec.structs.replace(off, name="minion-2")}
    for name in libvirt.machines:
        libvirt.remembered(name).keep(Boot(f"boot-of-{name}", "run"))
    with locks.exclusive(libvirt.remembered("minion-2").lock):
        libvirt.look(watch())
    assert [(e.name, e.power, e.boot_id) for e in libvirt.events] == [("minion-1", Power.OFF, "boot-of-minion-1")]


def test_what_vanishes_was_destroyed(libvirt: Libvirt, watch) -> None:
    libvirt.machines = {"minion-1": ONE}
    watch()
    libvirt.wait(1)
    libvirt.machines = {}
    assert (libvirt.wait(2)[1].power, libvirt.events[1].reason) == (Power.OFF, "it was destroyed")


def test_nothing_is_told_after_a_stop(libvirt: Libvirt, watch) -> None:
    watcher = watch()
    watcher.stop()
    libvirt.machines = {"minion-1": ONE}
    libvirt.say("minion-1", "stopped", "its power was cut")
    assert libvirt.events == []
