"""Reports what happens to machines that labctl can't switch. A connection to each is held open; while it lives, the machine's boot lives.

When it ends, nothing is reported, because a pulled cable, a sleeping laptop and a power cut look alike. It is opened again, and the machine
is asked for
its boot id. If that has changed, the boot before has ended and nothing of it runs, which is reported before the new boot. What this process
did
itself (up, halt, destroy), the provider reports at once. At the start of a watch, each machine's present state is reported once.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from labctl.errors import LabctlError
from labctl.providers.protocol import Machine, MachineEvent, Power
from labctl.providers.settings import SshMachine, SshSettings
from labctl.providers.ssh import shell

Tell = Callable[[MachineEvent], None]


class Watch:
    """One watch. `ask` reads a machine's present state (None if it is not this lab's), and `reach` says how to connect to it."""

    def __init__(
        self,
        present: Mapping[str, Machine],
        tell: Tell,
        ask: Callable[[str], Machine | None],
        reach: Callable[[str], tuple[SshMachine, Path] | None],
        settings: SshSettings,
    ) -> None:
        self._tell = tell
        self._ask = ask
        self._reach = reach
        self._settings = settings
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Power, str]] = {}
        self._holders: dict[str, _Holder] = {}
        self._stopped = threading.Event()
        for machine in present.values():
            self.see(machine, "its sshd answers" if machine.power is Power.ON else "it is halted", intended=True)

    def see(self, machine: Machine, reason: str, *, intended: bool) -> None:
        """Take in a machine's present state. It is reported only if it is new."""
        name, unused = machine.name, None
        with self._lock:
            power, boot_id = self._known.get(name, (None, ""))
            off = machine.power is Power.OFF
            if self._stopped.is_set() or power is machine.power and (off or boot_id == machine.boot_id):
                return
            if power is Power.ON and not off:
                self._say(MachineEvent(name, Power.OFF, boot_id, "it was booted again, so the boot before has ended"))
            self._known[name] = (machine.power, machine.boot_id)
            self._say(MachineEvent(name, machine.power, machine.boot_id, reason, intended))
            if off:
                unused = self._holders.pop(name, None)
            elif name not in self._holders:
                self._holders[name] = _Holder(name, self, self._ask, self._reach, self._settings, self._stopped)
        if unused:
            unused.end()

    def forget(self, name: str, reason: str) -> None:
        """Report the end of a machine that is no longer this lab's."""
        with self._lock:
            power, boot_id = self._known.pop(name, (None, ""))
            if power is Power.ON and not self._stopped.is_set():
                self._say(MachineEvent(name, Power.OFF, boot_id, reason, intended=True))
            holder = self._holders.pop(name, None)
        if holder:
            holder.end()

    def stop(self) -> None:
        with self._lock:
            self._stopped.set()
            holders = list(self._holders.values())
        for holder in holders:
            holder.end()

    def _say(self, event: MachineEvent) -> None:
        """Call the listener. An exception in it is printed like that of any thread, and later events are still reported."""
        try:
            self._tell(event)
        except Exception as error:
            threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread())))


class _Holder:
    """One machine's open connection, and the thread that waits for its end."""

    def __init__(
        self,
        name: str,
        watch: Watch,
        ask: Callable[[str], Machine | None],
        reach: Callable[[str], tuple[SshMachine, Path] | None],
        settings: SshSettings,
        stopped: threading.Event,
    ) -> None:
        self._name = name
        self._watch = watch
        self._ask = ask
        self._reach = reach
        self._settings = settings
        self._stopped = stopped
        self._ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name=f"ssh-watch {name}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        if process := self._process:
            process.terminate()
        if threading.current_thread() is not self._thread:
            self._thread.join(5)

    def _run(self) -> None:
        pause_s = self._settings.retry_first_s
        while not self._over():
            try:
                if self._hold():
                    pause_s = self._settings.retry_first_s
            except (LabctlError, OSError):
                pass  # it can't be reached, so nothing is known
            except Exception as error:  # a mistake of ours is printed like that of any thread, and the watch continues
                threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread())))
            if self._ended.wait(pause_s):
                return
            pause_s = min(pause_s * 2, self._settings.retry_max_s)

    def _over(self) -> bool:
        return self._ended.is_set() or self._stopped.is_set()

    def _hold(self) -> bool:
        """Connect, ask for the boot, and wait for the connection's end. Return False if there was no connection."""
        found = self._reach(self._name)
        if not found:
            return False
        machine, known_hosts = found
        argv = shell.command(machine, self._settings, known_hosts, ["/bin/sh", "-c", "echo; exec cat"])
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
            assert process.stdout
            self._process = process
            try:
                if self._over() or not process.stdout.read(1):
                    return False
                self._look()
                return not process.stdout.read(1)
            finally:
                process.terminate()

    def _look(self) -> None:
        """Ask for the machine's state while the connection is open, so that it belongs to the boot with which the connection ends."""
        machine = self._ask(self._name)
        if machine:
            self._watch.see(machine, "its sshd answers", intended=False)
