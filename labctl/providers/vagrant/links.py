"""The machines' links in the lab's network: their plugs, and the rules for what goes over them (loss, delay, rate, drops).

libvirt pulls a plug. Rules are set at the host's end of the link: a tap device in the network namespace of libvirt's machines, new at each start of
a machine, so rules are kept with the run that they were made for, and mean nothing to the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from labctl.errors import ProviderError
from labctl.providers import linkrules
from labctl.providers.protocol import LinkRule, Power
from labctl.providers.vagrant.hypervisor import Hypervisor
from labctl.providers.vagrant.machine import VagrantMachine

_HERE = ["env"]  # a command line before that of `tc` or `nft`, to run it where the device is: here


class Links:
    """The links of one lab's machines. `machine` returns what is remembered of one."""

    def __init__(self, hypervisor: Hypervisor, machine: Callable[[str], VagrantMachine]) -> None:
        self._hypervisor = hypervisor
        self._machine = machine

    def plug(self, name: str, *, up: bool) -> None:
        """Put the link's plug in, or pull it. A machine that is off has none."""
        domain = self._hypervisor.domain(name)
        if domain and self._hypervisor.power(domain) is not Power.OFF:
            self._hypervisor.link(domain, up)

    def rules(self, name: str) -> Mapping[str, LinkRule]:
        """Return the rules of the machine's present run, by their tags."""
        kept, domain = linkrules.read(self._machine(name).folder), self._hypervisor.domain(name)
        return kept.rules if kept and domain and kept.link == self._hypervisor.run(domain) else {}

    def change(self, name: str, tag: str, rule: LinkRule | None) -> None:
        """Set a rule, or remove the one of this tag. Raises ProviderError if it is to be set on a machine that is off."""
        machine = self._machine(name)
        with machine.operation():
            domain = self._hypervisor.domain(name)
            device = self._hypervisor.tap(domain) if domain and self._hypervisor.power(domain) is not Power.OFF else ""
            if device:
                linkrules.change(machine.folder, self._hypervisor.run(domain), device, _HERE, tag, rule)
            elif rule:
                raise ProviderError(f"{name} is off")
            else:
                self.clear(machine)

    def clear(self, machine: VagrantMachine) -> None:
        """Remove what is left of the rules of a run that has ended."""
        linkrules.clear(machine.folder, _HERE)
