"""Reports what happens to machines. A thread sleeps on the process descriptor of every machine's init.

A descriptor becomes readable when the init and everything below it has ended, not before. It belongs to that process, even if the
process id is reused. Machines that other processes started are found by looking every `rescan_s`;
those of this process wake the thread. At the start of a watch, each machine's present state is reported once.

When the lab's init has ended every machine ends, and on a busy host the kernel takes long for some of them. Their ends are then reported together, because
who hears of one end alone takes the other machines for living, and moves pods there.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from labctl import logfiles
from labctl.errors import ProviderError
from labctl.providers.namespace.lab import ended, open_init
from labctl.providers.namespace.machine import NamespaceMachine
from labctl.providers.protocol import MachineEvent, Power

_AFTER_FAILURE_S = 0.05
_AFTER_MISTAKE_S = 1.0
_TOGETHER_S = 5.0  # the longest that an end is kept back for those of other machines
Tell = Callable[[MachineEvent], None]


@dataclass
class _Seen:
    boot_id: str
    power: Power
    pidfd: int = -1


@dataclass
class Watcher:
    """One watch. `machines` reads which machines there are, and `lab_lives` tells whether the lab's init does."""

    machines: Callable[[], Mapping[str, NamespaceMachine]]
    lab_lives: Callable[[], bool]
    tell: Tell
    rescan_s: float
    together_s: float = _TOGETHER_S
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _found: deque[MachineEvent] = field(default_factory=deque)
    _stopped: bool = False
    _kept_since: float = 0.0

    def __post_init__(self) -> None:
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._wake_read, select.POLLIN)
        self._look()  # done here, so that every end from now on is noticed; the thread reports it, as it does all events
        self._thread = threading.Thread(target=self._run, name="namespace-watch", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look now, because this process changed something."""
        with contextlib.suppress(OSError):  # the pipe is full, so the thread wakes anyway; or it is closed, so the watch has stopped
            os.write(self._wake_write, b"w")

    def stop(self) -> None:
        self._stopped = True
        self.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopped:
                kept = self._keeps_ends_back()
                if not kept:
                    self._tell_all()
                for fd, _ in self._poll.poll((min(self.rescan_s, self.together_s) if kept else self.rescan_s) * 1000):
                    if fd == self._wake_read:
                        os.read(self._wake_read, 4096)
                self._look()
        finally:
            for seen in self._seen.values():
                self._forget(seen)
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _look(self) -> None:
        try:
            self._look_at_all()
        except (OSError, ProviderError):  # such as a folder that was just removed, or too many open files; the next look tries again
            time.sleep(_AFTER_FAILURE_S)
        except Exception as error:  # a mistake of ours is printed like that of any thread, and the next look tries again
            _show(error)
            time.sleep(_AFTER_MISTAKE_S)

    def _look_at_all(self) -> None:
        machines = self.machines()
        for machine in machines.values():
            self._look_at(machine)
            logfiles.bound(machine.folder / "console.log")
        for name in [name for name in self._seen if name not in machines]:
            seen = self._seen.pop(name)
            self._forget(seen)
            if seen.power is not Power.OFF:
                self._found.append(MachineEvent(name, Power.OFF, seen.boot_id, "it was destroyed", intended=True))

    def _look_at(self, machine: NamespaceMachine) -> None:
        """Report what changed since the last look: the end of the boot that was seen first, then the boot that is there now."""
        seen = self._seen.get(machine.name)
        if seen and seen.pidfd >= 0:
            if not ended(seen.pidfd):
                self._frozen_or_not(machine, seen)
                return
            self._forget(seen)
            self._off(machine, seen.boot_id)
        # The order matters: a boot that is just starting has its plan but no init yet, and has not ended.
        boot, busy, found = machine.boot(), machine.busy(), open_init(machine.alive)
        if found:
            self._on(machine, found[1])
        elif boot and not busy and (not seen or seen.boot_id != boot.boot_id):
            self._off(machine, boot.boot_id)

    def _on(self, machine: NamespaceMachine, pidfd: int) -> None:
        """Note that the machine is on.

        `pidfd` was alive a moment ago, and the plan is written before its init starts, so the plan is that of this boot.
        """
        boot = machine.boot()
        if not boot or ended(pidfd):
            os.close(pidfd)  # the next look reports it
            return
        self._poll.register(pidfd, select.POLLIN)
        seen = self._seen[machine.name] = _Seen(boot.boot_id, Power.ON, pidfd)
        self._found.append(MachineEvent(machine.name, Power.ON, boot.boot_id, "its init runs", intended=True))
        self._frozen_or_not(machine, seen)

    def _frozen_or_not(self, machine: NamespaceMachine, seen: _Seen) -> None:
        power = Power.PAUSED if machine.frozen() else Power.ON
        if power is not seen.power:
            seen.power = power
            reason = "its processes are frozen" if power is Power.PAUSED else "its processes go on"
            self._found.append(MachineEvent(machine.name, power, seen.boot_id, reason, intended=True))

    def _off(self, machine: NamespaceMachine, boot_id: str) -> None:
        self._seen[machine.name] = _Seen(boot_id, Power.OFF)
        how = machine.ended()
        if how and how.boot_id == boot_id:
            self._found.append(MachineEvent(machine.name, Power.OFF, boot_id, how.reason, how.intended))
        elif not machine.folder.exists():  # only a destroyed machine loses it, and what ended the boot was written there
            self._found.append(MachineEvent(machine.name, Power.OFF, boot_id, "it was destroyed", intended=True))
        else:
            self._found.append(MachineEvent(machine.name, Power.OFF, boot_id, "its init was killed"))

    def _keeps_ends_back(self) -> bool:
        """Tell whether a machine's end is to be reported with those of others, which are ending now because the lab's init has ended."""
        ends = any(event.power is Power.OFF for event in self._found)
        if not ends or not any(seen.pidfd >= 0 for seen in self._seen.values()) or self.lab_lives():
            self._kept_since = 0.0
            return False
        self._kept_since = self._kept_since or time.monotonic()
        return time.monotonic() - self._kept_since < self.together_s

    def _tell_all(self) -> None:
        """Call the listener for each event. An exception in it is printed like that of any thread, and later events are still reported."""
        while self._found:
            try:
                self.tell(self._found.popleft())
            except Exception as error:
                _show(error)

    def _forget(self, seen: _Seen) -> None:
        if seen.pidfd >= 0:
            self._poll.unregister(seen.pidfd)
            os.close(seen.pidfd)
            seen.pidfd = -1


def _show(error: Exception) -> None:
    threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread())))
