"""Provider `vagrant`: virtual machines, made by Vagrant from the Vagrantfile in the lab's folder. This file carries out the protocol with
its parts.

    folder       the Vagrantfile, and the facts it reads
    command      runs vagrant: making machines, removing them
    hypervisor   uses libvirt: power, links, networks, events
    links        the machines' links in the lab's network, and the rules for them
    box          what the machines boot from
    accelerator  tries whether the host's processor can run them
    boot         waits for a boot, and starts a hanging one again
    machine      what is remembered of one machine
    watch        reports what became known

All methods block, are idempotent, and may be called from several threads and processes: every operation on a machine takes that machine's
lock, and the
present state is read from libvirt each time. It needs no root: who may use libvirt's socket may use this provider.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from labctl import assets
from labctl.errors import ProviderError
from labctl.providers import linkrules, locks, uplinks
from labctl.providers.protocol import Finding, LinkRule, Machine, MachineEvent, MachineSpec, Power, Stop, Uplink, Verdict
from labctl.providers.settings import VagrantSettings
from labctl.providers.vagrant import accelerator, console, shell, snapshots
from labctl.providers.vagrant.boot import Wait
from labctl.providers.vagrant.box import Box
from labctl.providers.vagrant.command import Starts, Vagrant
from labctl.providers.vagrant.folder import LabFolder
from labctl.providers.vagrant.hypervisor import Hypervisor
from labctl.providers.vagrant.links import Links
from labctl.providers.vagrant.machine import Boot, End, VagrantMachine
from labctl.providers.vagrant.probe import findings, probe
from labctl.providers.vagrant.watch import Watcher
from labctl.providers.watching import stopper

_POLL_S = 0.1


def _silent(line: str) -> None:
    """Do nothing, as a progress callback."""


class VagrantProvider:
    """The provider. `folder` is the lab's (with the Vagrantfile), `state` is this lab's on a local disk, and labs share `cache`."""

    name = "vagrant"
    prepares = "box"
    keeps_memory = True

    def __init__(
        self,
        lab: str,
        folder: Path,
        state: Path,
        cache: Path,
        settings: VagrantSettings | None = None,
        progress: Callable[[str], None] = _silent,
    ) -> None:
        self._lab = lab
        self._state = state
        self._cache = cache
        self._settings = settings or VagrantSettings()
        self._progress = progress
        self._folder = LabFolder(folder)
        self._box = Box(cache, self._settings)
        self._hypervisor = Hypervisor(lab)
        self._links = Links(self._hypervisor, self._machine)
        self._vagrant = Vagrant(folder)
        self._starts = Starts(self._vagrant)
        self._watchers: list[Watcher] = []

    # -- Provider

    def probe(self) -> Verdict:
        return probe(self._hypervisor, self._box, self._settings)

    def checks(self) -> Sequence[Finding]:
        """Return the doctor's lines."""
        return list(findings(self._hypervisor, self._box, self._settings))

    @property
    def emulated(self) -> bool:
        """Tell whether machines run on an emulated processor, and take many times as long."""
        return self._folder.read().get("driver") == "qemu"

    def prepare(self) -> None:
        """Build the box if there is none, give it to Vagrant, choose the accelerator, and write all this down for the Vagrantfile."""
        name = self._settings.box or self._box.name
        if not self._settings.box or self._settings.box == self._box.name:
            path = self._box.get(self._progress)
            if name not in self._vagrant.boxes():
                self._progress(f"giving {name} to Vagrant")
                self._vagrant.add_box(name, path)
        chosen = accelerator.choose(self._box, self._cache) if self._box.path().exists() else accelerator.UNTRIED
        self._progress(chosen.why)
        facts = {"lab": self._lab, "network": self._settings.network, "box": name, "driver": chosen.driver}
        self._folder.write_facts(**facts, **self._kernel_and_initrd(name), provision=str(assets.provision("")))

    def _kernel_and_initrd(self, box: str) -> dict[str, str]:
        """Return where QEMU finds the kernel and the initrd of labctl's own box."""
        if box != self._box.name:
            return {}
        with tempfile.TemporaryDirectory(prefix="labctl-box-") as scratch:
            files = dict(zip(("kernel", "initrd"), self._box.kernel(Path(scratch)), strict=True))
            with locks.exclusive(self._cache / "boxes" / ".lent"):
                return {what: self._hypervisor.pool.copy_in(path, f"{box.replace('/', '-')}-{path.name}") for what, path in files.items()}

    def up(self, spec: MachineSpec) -> Machine:
        if IPv4Address(spec.address) not in IPv4Network(self._settings.network):
            raise ProviderError(f"{spec.name}: {spec.address} is not in the lab's network {self._settings.network}")
        machine = self._machine(spec.name)
        try:
            with machine.operation():
                self._up(machine, spec)
        except OSError as error:
            raise ProviderError(f"{spec.name}: {error}") from error
        finally:
            self._changed()
        return self._describe(machine, spec, Power.ON)

    def halt(self, name: str, grace_s: float = 10.0) -> None:
        self._end(name, "it was halted", intended=True, grace_s=grace_s)

    def destroy(self, name: str) -> None:
        machine = self._machine(name)
        if not machine.folder.exists() and not self._hypervisor.domain(name):
            return
        self._end(name, "it was destroyed", intended=True)
        with machine.operation():
            self._remove(name)
            machine.remove()
            self._folder.drop(name)
            machine.lock.unlink(missing_ok=True)
        self._changed()

    def machines(self) -> Mapping[str, Machine]:
        domains, found = self._hypervisor.domains(), {}
        for name in sorted(self._names()):
            machine = self._machine(name)
            spec = machine.spec()
            if spec and machine.host_key():
                domain = domains.get(machine.name)
                found[machine.name] = self._describe(machine, spec, self._power(machine, spec, domain))
        return found

    def watch(self, tell: Callable[[MachineEvent], None]) -> Stop:
        return stopper(self._watchers, Watcher(self.machines, self._machine, self._hypervisor.listen, tell))

    def uplink(self, port: int) -> Uplink:
        self._ensure_networks()
        host = str(IPv4Network(self._settings.network).network_address + 1)
        listening = uplinks.listen(host, port)
        bound = listening.getsockname()[1]
        return Uplink(f"https://{host}:{bound}", host, bound, (listening,))

    def destroy_lab(self) -> None:
        for name in sorted(self._names() | set(self._hypervisor.domains())):
            self.destroy(name)
        self._hypervisor.pool.remove_by_prefix(f"{self._lab}-", f".{self._lab}-")  # disks that a killed load left behind
        self._hypervisor.remove_network()
        self._folder.clear()
        for part in ("machines", "locks"):
            shutil.rmtree(self._state / part, ignore_errors=True)
        self._changed()

    # -- PowerControl

    def power_off(self, name: str) -> None:
        self._end(name, "its power was cut", intended=False)

    def reset(self, name: str) -> None:
        spec = self._machine(name).spec()
        if not spec:
            raise ProviderError(f"there is no machine {name}")
        self._end(name, "it was reset", intended=False)
        self.up(spec)

    def pause(self, name: str) -> None:
        domain = self._hypervisor.domain(name)
        if domain and self._hypervisor.power(domain) is Power.ON:
            self._hypervisor.freeze(domain, True)
        self._changed()

    def resume(self, name: str) -> None:
        domain = self._hypervisor.domain(name)
        if domain and self._hypervisor.power(domain) is Power.PAUSED:
            self._hypervisor.freeze(domain, False)
        self._changed()

    # -- Links

    def cut(self, name: str) -> None:
        self._links.plug(name, up=False)

    def restore(self, name: str) -> None:
        self._links.plug(name, up=True)

    # -- LinkRules

    def why_no_rule(self, rule: LinkRule) -> str:
        return linkrules.try_out({"probe": rule})

    def add_rule(self, name: str, tag: str, rule: LinkRule) -> None:
        self._links.change(name, tag, rule)

    def remove_rule(self, name: str, tag: str) -> None:
        self._links.change(name, tag, None)

    def link_rules(self, name: str) -> Mapping[str, LinkRule]:
        return self._links.rules(name)

    # -- Snapshots

    def check_machines(self, folder: Path) -> None:
        snapshots.check(snapshots.read(folder), self._hypervisor, self._settings.network)

    def save_machines(self, folder: Path, meanwhile: Callable[[], None]) -> None:
        machines = [self._machine(name) for name in self._names()]
        try:
            snapshots.save(self._lab, machines, self._hypervisor, self._folder.facts(), folder, meanwhile)
        except OSError as error:
            raise ProviderError(f"the machines can't be saved: {error}") from error
        finally:
            self._changed()

    def load_machines(self, folder: Path) -> None:
        saved = snapshots.read(folder)
        snapshots.check(saved, self._hypervisor, self._settings.network)
        there = self._names() | set(self._hypervisor.domains())
        with contextlib.ExitStack() as operations:
            for name in sorted(there | {each.spec.name for each in saved.machines}):
                operations.enter_context(self._machine(name).operation())
            snapshots.side_by_side(self._clear_away, there)
            self._ensure_networks()
            self._folder.write_facts(lab=self._lab, **saved.facts, provision=str(assets.provision("")))
            domains = snapshots.load(saved, self._lab, self._machine, self._hypervisor, folder, self._folder.path / "Vagrantfile")
            for each, domain in zip(saved.machines, domains, strict=True):
                self._folder.add(each.spec, self._machine(each.spec.name).console)
                self._folder.claim(each.spec.name, domain.UUIDString())
            snapshots.wake(saved, self._machine, self._folder.key, self._settings)
        self._changed()

    # -- parts

    def _names(self) -> set[str]:
        return {folder.name for folder in (self._state / "machines").glob("*")}

    def _clear_away(self, name: str) -> None:
        """Remove the machine before another of the same name, or none, takes its place.

        The caller holds its lock. Vagrant is not used, because it takes seconds.
        """
        self._end(name, "another took its place", intended=True)
        self._unmake(name)
        self._machine(name).remove()
        self._folder.drop(name)

    def _unmake(self, name: str) -> None:
        domain = self._hypervisor.domain(name)
        if domain:
            self._hypervisor.forget(domain)
        self._folder.disown(name)

    def _up(self, machine: VagrantMachine, spec: MachineSpec) -> None:
        """Bring the machine up. The caller holds its lock."""
        domain = self._hypervisor.domain(spec.name)
        power = self._hypervisor.power(domain) if domain else Power.OFF
        boot = machine.boot()
        if domain and power is Power.PAUSED:
            self.resume(spec.name)
        if domain and power is not Power.OFF and boot and boot.run == self._hypervisor.run(domain):
            return
        machine.keep(spec)
        self._folder.add(spec, machine.console)
        making, own = None, self._own_box()
        self._ensure_networks()
        if domain is None:
            self._progress(f"{spec.name} is being made")
            making = self._starts.ask(spec.name, provision=not own)
        elif power is Power.OFF:
            self._links.clear(machine)  # of a run that ended by itself
            self._hypervisor.start(domain)
        wait = Wait(machine, spec, self._hypervisor, self._settings, lambda: self._ask_boot(machine, spec), self._progress)
        try:
            machine.keep(wait.until_up(making, to_its_end=not own))
        except ProviderError:
            if making and making.done() and making.exception():
                self._unmake(spec.name)  # a half-made machine would be taken for a complete one
            raise
        self._starts.answers(spec.name)

    def _ensure_networks(self) -> None:
        with locks.exclusive(self._state / "locks" / ".networks"):
            self._hypervisor.ensure_networks(self._settings.network)

    def _own_box(self) -> bool:
        return str(self._folder.read().get("box", "")).startswith("labctl/")

    def _end(self, name: str, reason: str, *, intended: bool, grace_s: float = 0.0) -> None:
        """Stop the machine: in order if there is a grace time, and by a power cut after it.

        A machine that is off or unknown is no error.
        """
        machine = self._machine(name)
        domain = self._hypervisor.domain(name)
        if domain and self._hypervisor.power(domain) is not Power.OFF:
            boot = machine.boot()
            if boot:
                machine.keep(End(boot.boot_id, reason, intended))
            if grace_s > 0 and self._hypervisor.power(domain) is Power.ON:
                self._ask_to_stop(machine, grace_s)
                deadline = time.monotonic() + grace_s
                while self._hypervisor.power(domain) is not Power.OFF and time.monotonic() < deadline:
                    time.sleep(_POLL_S)
            self._hypervisor.end(domain)
        self._links.clear(machine)
        self._changed()

    def _ask_to_stop(self, machine: VagrantMachine, grace_s: float) -> None:
        spec = machine.spec()
        if spec:
            shell.run(
                spec.address,
                self._folder.key,
                machine.known_hosts,
                "systemctl poweroff --no-block",
                min(grace_s, self._settings.ssh_deadline_s),
            )

    def _remove(self, name: str) -> None:
        """Remove it through Vagrant, so that Vagrant forgets it; what Vagrant leaves, because its folder is gone, through libvirt."""
        self._starts.wait(self._settings.vagrant_deadline_s)
        if self._hypervisor.domain(name) and (self._folder.path / "Vagrantfile").exists():
            try:
                self._vagrant.destroy(name)
            except ProviderError as error:
                self._progress(f"{name}: {error.message}")
        domain = self._hypervisor.domain(name)
        if domain:
            self._hypervisor.forget(domain)

    def _power(self, machine: VagrantMachine, spec: MachineSpec, domain: object | None) -> Power:
        """Return the machine's power. On means that its sshd has answered since this run began; before that, the machine is not up."""
        power = self._hypervisor.power(domain) if domain else Power.OFF
        if power is Power.OFF:
            return power
        run, boot = self._hypervisor.run(domain), machine.boot()
        if boot and boot.run == run:
            return power
        if power is Power.ON and not machine.busy() and shell.greets(spec.address, 3.0):
            self._take_up(machine, spec, run)
        return power if (boot := machine.boot()) and boot.run == run else Power.OFF

    def _take_up(self, machine: VagrantMachine, spec: MachineSpec, run: str) -> None:
        """Record a boot that this provider did not start: by the machine itself or by Vagrant."""
        said = self._ask_boot(machine, spec)
        if said:
            machine.keep(Boot(said.boot_id, run, said.arch))

    def _ask_boot(self, machine: VagrantMachine, spec: MachineSpec) -> shell.BootAnswer | None:
        """Ask for the boot: the console if it can be read, otherwise sshd."""
        said = console.last_boot(machine.console)
        if said:
            boot_id, host_key = said
            machine.pin(host_key)
            return shell.BootAnswer(boot_id, self._box.arch)
        return shell.ask_boot(spec.address, self._folder.key, machine.known_hosts, self._settings.ssh_deadline_s)

    def _describe(self, machine: VagrantMachine, spec: MachineSpec, power: Power) -> Machine:
        boot = machine.boot()
        return Machine(
            name=spec.name,
            power=power,
            address=spec.address,
            host_key=machine.host_key(),
            arch=boot.arch if boot else self._box.arch,
            boot_id=boot.boot_id if boot and power is not Power.OFF else "",
            own_clock=True,
        )

    def _machine(self, name: str) -> VagrantMachine:
        return VagrantMachine(self._state / "machines" / name)

    def _changed(self) -> None:
        for watcher in list(self._watchers):
            watcher.wake()
