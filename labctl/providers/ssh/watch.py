"""Telling what is known of machines nobody can switch: a connection is held to each, and while it lives that boot lives.

When it ends, nothing is told: a cable, a laptop's sleep and a power cut look alike. It is opened again, and the machine is asked which boot it is in.
Another boot id means that the one before is over, and that nothing of it runs: that is told, as its end, before the new one. What this process did
itself (up, halt, destroy) is told at once by the provider. At a watch's start each machine's present state is told once.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from labctl.errors import LabctlError
from labctl.providers.protocol import Machine, MachineEvent, Power
from labctl.providers.settings import SshMachine, SshSettings
from labctl.providers.ssh import shell

Tell = Callable[[MachineEvent], None]


class Watch:
    """One listener. `ask` reads a machine from reality (None: it is not this lab's), `reach` is how it is held."""

    def __init__(
        self,
        present: Mapping[str, Machine],
        tell: Tell,
        ask: Callable[[str], Machine | None],
        reach: Callable[[str], tuple[SshMachine, str] | None],
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
        """What a machine is now. Told only if it is news."""
        name, unused = machine.name, None
        with self._lock:
            power, boot_id = self._known.get(name, (None, ""))
            off = machine.power is Power.OFF
            if self._stopped.is_set() or power is machine.power and (off or boot_id == machine.boot_id):
                return
            if power is Power.ON and not off:
                self._say(MachineEvent(name, Power.OFF, boot_id, "it was booted anew: the boot before is over"))
            self._known[name] = (machine.power, machine.boot_id)
            self._say(MachineEvent(name, machine.power, machine.boot_id, reason, intended))
            if off:
                unused = self._holders.pop(name, None)
            elif name not in self._holders:
                self._holders[name] = _Holder(name, self, self._ask, self._reach, self._settings, self._stopped)
        if unused:
            unused.end()

    def forget(self, name: str, reason: str) -> None:
        """It is not this lab's any more."""
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
        """A listener's mistake is shown like any thread's, and costs nobody the later events."""
        try:
            self._tell(event)
        except Exception as error:
            threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread())))


class _Holder:
    """One machine's held connection, and the thread that waits for its end."""

    def __init__(
        self,
        name: str,
        watch: Watch,
        ask: Callable[[str], Machine | None],
        reach: Callable[[str], tuple[SshMachine, str] | None],
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
                pass  # it can't be reached: nothing is known
            except Exception as error:  # our mistake: it is shown as any thread's, and the watch goes on
                threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread())))
            if self._ended.wait(pause_s):
                return
            pause_s = min(pause_s * 2, self._settings.retry_most_s)

    def _over(self) -> bool:
        return self._ended.is_set() or self._stopped.is_set()

    def _hold(self) -> bool:
        """Connect; ask which boot that is; wait for the connection's end. False: there was none."""
        found = self._reach(self._name)
        if not found:
            return False
        machine, host_key = found
        with tempfile.TemporaryDirectory(prefix="labctl-ssh-") as folder:
            known = Path(folder) / "known_hosts"
            known.write_text(f"{machine.name} {host_key}\n")
            argv = shell.command(machine, self._settings, known, ["/bin/sh", "-c", "echo; exec cat"])
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
        """While the connection is there, so that what is read is of the boot that it ends with."""
        machine = self._ask(self._name)
        if machine:
            self._watch.see(machine, "its sshd answers", intended=False)
