"""Watches machines. libvirt reports every domain's end within milliseconds, and then its QEMU process is already gone.

    libvirt's thread ── (name, word, reason) ──► queue ──► one thread of ours: reports what became known, with the boot it is about

What was not reported, because libvirtd was restarted or a machine was booted without labctl, is found by looking every `rescan_s`. At the
start of a
watch, each machine's present state is reported once. A boot is known by the kernel's own id, which is asked for over SSH once for each
boot.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping

from labctl.errors import ProviderError
from labctl.providers.protocol import Machine, MachineEvent, Power
from labctl.providers.vagrant.machine import VagrantMachine

Tell = Callable[[MachineEvent], None]
Listen = Callable[[Callable[[str, str, str], None]], Callable[[], None]]

RESCAN_S = 1.0
_ENDS = ("stopped", "rebooted", "gone")


class Watcher:
    """One watch. `machines` reads which machines there are, `remembered` what is kept of a machine, and `listen` registers with libvirt."""

    def __init__(
        self,
        machines: Callable[[], Mapping[str, Machine]],
        remembered: Callable[[str], VagrantMachine],
        listen: Listen,
        tell: Tell,
        rescan_s: float = RESCAN_S,
    ) -> None:
        self._machines = machines
        self._remembered = remembered
        self._listen = listen
        self._tell = tell
        self._rescan_s = rescan_s
        self._heard: queue.Queue[tuple[str, str, str]] = queue.Queue()
        self._seen: dict[str, tuple[Power, str]] = {}
        self._deaf: Callable[[], None] | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="vagrant-watch", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look now, because this process changed something."""
        self._heard.put(("", "look", ""))

    def stop(self) -> None:
        self._stopped = True
        self.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped:
            for step in (self._listen_and_look, self._wait):
                try:
                    step()
                except ProviderError:  # libvirtd does not answer, so nothing is known and nothing is reported
                    pass
                except (
                    Exception
                ) as error:  # a mistake of ours or of the listener is printed like that of any thread, and the watch continues
                    threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread())))
        if self._deaf:
            self._deaf()

    def _listen_and_look(self) -> None:
        if self._deaf is None:
            self._deaf = self._listen(lambda *said: self._heard.put(said))
        self._look()

    def _wait(self) -> None:
        """Wait for a message from libvirt or for `rescan_s`. Ends are reported at once, without looking."""
        try:
            said = self._heard.get(timeout=self._rescan_s)
            while True:
                self._hear(*said)
                said = self._heard.get_nowait()
        except queue.Empty:
            return

    def _hear(self, name: str, word: str, reason: str) -> None:
        if self._stopped:
            return
        power, boot_id = self._seen.get(name, (Power.OFF, ""))
        if word in _ENDS and power is not Power.OFF:
            self._off(name, boot_id, reason)
        if word == "rebooted":
            self._remembered(name).forget_boot()

    def _look(self) -> None:
        machines = self._machines()
        if self._stopped:
            return
        for machine in machines.values():
            self._look_at(machine)
        for name in [name for name in self._seen if name not in machines]:
            power, boot_id = self._seen[name]
            if power is not Power.OFF:
                self._off(name, boot_id, "it was destroyed")
            del self._seen[name]

    def _look_at(self, machine: Machine) -> None:
        before = self._seen.get(machine.name)
        power, boot_id = before or (Power.OFF, "")
        if machine.power is Power.OFF:
            self._look_at_off(machine.name, before)
            return
        if machine.boot_id != boot_id:
            if power is not Power.OFF:
                self._off(machine.name, boot_id, "it was booted again")
            self._say(machine, machine.power if machine.power is Power.PAUSED else Power.ON, "its sshd answers")
        elif machine.power is not power:
            self._say(machine, machine.power, "it is paused" if machine.power is Power.PAUSED else "it goes on")

    def _look_at_off(self, name: str, before: tuple[Power, str] | None) -> None:
        """Handle a machine that is off. It is reported if it was on before, or if this is the first look and there was a boot.

        A machine that is just booting has not ended.
        """
        if before and before[0] is not Power.OFF:
            self._off(name, before[1], "it was found off")
        elif before is None and not (kept := self._remembered(name)).busy() and (boot := kept.boot()):
            self._off(name, boot.boot_id, "it was found off")

    def _say(self, machine: Machine, power: Power, reason: str) -> None:
        self._seen[machine.name] = (power, machine.boot_id)
        self._send(MachineEvent(machine.name, power, machine.boot_id, reason, intended=True))

    def _off(self, name: str, boot_id: str, reason: str) -> None:
        self._seen[name] = (Power.OFF, boot_id)
        end = self._remembered(name).end()
        if end and end.boot_id == boot_id:
            self._send(MachineEvent(name, Power.OFF, boot_id, end.reason, end.intended))
        else:
            self._send(MachineEvent(name, Power.OFF, boot_id, reason))

    def _send(self, event: MachineEvent) -> None:
        """Call the listener. An exception in it is printed like that of any thread, and later events are still reported."""
        try:
            self._tell(event)
        except Exception as error:
            threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread())))
