"""Waiting for a machine that was started: until its sshd says which boot it is. A machine that says nothing is reset, each time with twice the patience.

One boot in some sixty hangs in the kernel's first instructions on an emulated and busy host; starting it again helps.
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
    """One boot of one machine. `who` asks the machine which boot it is."""

    def __init__(
        self,
        machine: VagrantMachine,
        spec: MachineSpec,
        hypervisor: Hypervisor,
        settings: VagrantSettings,
        who: Callable[[], shell.Said | None],
        progress: Callable[[str], None],
    ) -> None:
        self._machine = machine
        self._spec = spec
        self._hypervisor = hypervisor
        self._settings = settings
        self._who = who
        self._progress = progress
        self._patience_s = settings.watchdog_s
        self._run = ""
        self._since = 0.0

    def until_up(self, vagrant: Future[None] | None, to_its_end: bool) -> Boot:
        """`vagrant` is the command that makes the machine, if it is new; its failure is the boot's. `to_its_end`: it does more than to start it."""
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
            said = self._who()
            if said:
                return Boot(said.boot_id, run, said.arch)
        self._watchdog(domain)
        return None

    def _watchdog(self, domain: Any) -> None:
        if time.monotonic() - self._since < self._patience_s or console.heard(self._machine.console):
            return  # one whose kernel has spoken is slow, not hung
        self._progress(f"{self._spec.name} said nothing for {self._patience_s:.0f} s: it is started again")
        self._hypervisor.again(domain)
        self._since, self._patience_s = time.monotonic(), self._patience_s * 2
