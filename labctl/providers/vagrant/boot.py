"""Waits for a machine that was started, until its sshd tells the boot id. A machine that prints nothing is reset, each time after twice as
long.

On an emulated and busy host, about one boot in sixty hangs in the kernel's first instructions; starting it again helps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from labctl.errors import ProviderError
from labctl.providers.protocol import MachineSpec, Power
from labctl.providers.settings import VagrantSettings
from labctl.providers.vagrant import console, shell
from labctl.providers.vagrant.hypervisor import Hypervisor
from labctl.providers.vagrant.machine import Boot, VagrantMachine

POLL_S = 0.2


class Wait:
    """The wait for one boot of one machine. `who` asks the machine for its boot."""

    def __init__(
        self,
        machine: VagrantMachine,
        spec: MachineSpec,
        hypervisor: Hypervisor,
        settings: VagrantSettings,
        who: Callable[[], shell.BootAnswer | None],
        progress: Callable[[str], None],
    ) -> None:
        self._machine = machine
        self._spec = spec
        self._hypervisor = hypervisor
        self._settings = settings
        self._ask_boot = who
        self._progress = progress
        self._patience_s = settings.watchdog_s
        self._run = ""
        self._since = 0.0

    def until_up(self, vagrant: Future[None] | None, to_its_end: bool) -> Boot:
        """Wait until the machine answers. `vagrant` is the command that makes a new machine; if it fails, the boot fails.

        With `to_its_end`, the command does more than start the machine, so its end is awaited too.
        """
        deadline = time.monotonic() + self._settings.boot_deadline_s + (self._settings.vagrant_deadline_s if vagrant else 0)
        while time.monotonic() < deadline:
            boot = self._look()
            if boot:
                if vagrant and to_its_end:
                    vagrant.result(self._settings.vagrant_deadline_s)
                return boot
            if vagrant and vagrant.done():
                vagrant.result()
            time.sleep(POLL_S)
        raise ProviderError(
            f"{self._spec.name} does not answer on {self._spec.address} after {self._settings.boot_deadline_s:.0f} s",
            mend=f"see {self._machine.console}; if it is only slow, give it longer (nodes.ready_s in lab.yml); then labctl up",
        )

    def _look(self) -> Boot | None:
        domain = self._hypervisor.domain(self._spec.name)
        if domain is None or self._hypervisor.power(domain) is not Power.ON:
            return None
        run = self._hypervisor.run(domain)
        if run != self._run:
            self._run, self._since = run, time.monotonic()
            self._progress(f"{self._spec.name} boots")
        if shell.greets(self._spec.address, self._settings.ssh_deadline_s):
            said = self._ask_boot()
            if said:
                return Boot(said.boot_id, run, said.arch)
        self._watchdog(domain)
        return None

    def _watchdog(self, domain: Any) -> None:
        if time.monotonic() - self._since < self._patience_s or console.heard(self._machine.console):
            return  # a kernel that has printed something is slow, but does not hang
        self._progress(f"{self._spec.name} printed nothing for {self._patience_s:.0f} s and is started again")
        self._hypervisor.reset(domain)
        self._since, self._patience_s = time.monotonic(), self._patience_s * 2
