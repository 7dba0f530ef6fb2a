"""Provider `ssh`: machines that exist already. It has no power switch and no links. Everything of labctl's on a machine was put there by
it, and is removed by it.

    shell     runs a script on a machine, through OpenSSH
    look      what a machine is, has and lacks
    probe     judges all machines together: the verdict, and the doctor's table
    prepare   packages, the pinned host key, the way to the master
    records   what is remembered
    watch     reports what became known

A machine is claimed by a file on it, /etc/labctl/claim: its lab, On or Off, its boot. "Off" means that nothing of labctl's runs on the
machine, which
still does whatever else it does. All methods block, are idempotent, and may be called from several threads and processes: the present state
is read
from the machines.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import msgspec

from labctl.errors import LabctlError, ProviderError
from labctl.providers import uplinks
from labctl.providers.protocol import Finding, Machine, MachineEvent, MachineSpec, Power, Stop, Uplink, Verdict
from labctl.providers.settings import SshMachine, SshSettings
from labctl.providers.ssh import probe, shell
from labctl.providers.ssh.look import Facts, look, parse
from labctl.providers.ssh.prepare import prepare
from labctl.providers.ssh.records import Record, Records
from labctl.providers.ssh.watch import Watch
from labctl.providers.watching import stopper

AT_ONCE = 16  # machines


def _silent(line: str) -> None:
    """Do nothing, as a progress callback."""


class SshProvider:
    """The provider. `state` is this lab's folder; `progress` gets lines for people."""

    name = "ssh"
    prepares = "machines that exist"

    def __init__(self, lab: str, state: Path, settings: SshSettings, progress: Callable[[str], None] = _silent) -> None:
        self._lab = lab
        self._settings = settings
        self._progress = progress
        self._records = Records(state / "machines")
        self._watches: list[Watch] = []

    @property
    def numbers(self) -> Sequence[int]:
        """Return the numbers of the machines, as protocol.Listed says."""
        return sorted(int(machine.name.removeprefix("minion-")) for machine in self._settings.machines)

    # -- Provider

    def probe(self) -> Verdict:
        return probe.verdict(self._looks(), self._settings.prepare, self._settings.network)

    def checks(self) -> Sequence[Finding]:
        """Return the doctor's lines: one for each machine, and one for each thing that one of them lacks."""
        return probe.findings(self._looks(), self._settings.network)

    def prepare(self) -> Mapping[str, Any]:
        """Pin host keys, install missing packages if asked for, and find the way to the master. Return settings that are to be kept."""
        return prepare(self._settings, self._records, self._progress)

    def up(self, spec: MachineSpec) -> Machine:
        machine = self._configured(spec.name)
        facts = look(machine, self._settings, self._host_key(machine))
        lacking = [*facts.packages(self._settings.network), *facts.lacks()]
        if lacking:
            raise ProviderError(
                f"{shell.where(machine)} lacks {', '.join(lacking)}",
                mend="labctl up --prepare, or labctl doctor",
            )
        if not (facts.claim and facts.claim.lab == self._lab and facts.claim.power == Power.ON):
            facts = self._claim(machine, facts)
        up = self._describe(machine, facts)
        self._records.put(Record(machine, facts.host_key, up))
        for watch in list(self._watches):
            watch.see(up, "it was taken into this lab", intended=True)
        return up

    def halt(self, name: str, grace_s: float = 10.0) -> None:
        record = self._records.get(name)
        if record and record.seen:
            self._end(record, "halt")
            off = msgspec.structs.replace(record.seen, power=Power.OFF)  # with the id of the boot that ended
            self._records.put(msgspec.structs.replace(record, seen=msgspec.structs.replace(off, boot_id="")))
            for watch in list(self._watches):
                watch.see(off, "halted: its agent and its pods were ended", intended=True)

    def destroy(self, name: str) -> None:
        record = self._records.get(name)
        if record:
            # A machine that was never up may still have packages that `prepare` installed. If it does not answer, it is left alone.
            with nullcontext() if record.seen else suppress(shell.Silent):
                self._end(record, "destroy")
            for watch in list(self._watches):
                watch.forget(name, "destroyed: nothing of the lab is on it any more")
        self._records.remove(name)

    def machines(self) -> Mapping[str, Machine]:
        with ThreadPoolExecutor(AT_ONCE, "ssh-machines") as pool:
            records = [record for record in self._records.all() if record.seen]
            found = pool.map(self._real, records)
            return {machine.name: machine for machine in found if machine}

    def watch(self, tell: Callable[[MachineEvent], None]) -> Stop:
        return stopper(self._watches, Watch(self.machines(), tell, self._ask, self._reach, self._settings))

    def uplink(self, port: int) -> Uplink:
        address = self._settings.master_address
        if self._settings.uplink == "reverse" or not address:
            return Uplink(f"https://127.0.0.1:{port}", "127.0.0.1", port, reverse_tunnel=True)
        listening = uplinks.listen(address, port, where="", mend="set master_address in lab.yml, or uplink: reverse")
        return Uplink(f"https://{address}:{port}", address, port, (listening,))

    def destroy_lab(self) -> None:
        """Clean every machine. The first failure is raised only after all have been tried."""
        names = [record.machine.name for record in self._records.all()]
        with ThreadPoolExecutor(AT_ONCE, "ssh-destroy") as pool:
            tried = zip(names, pool.map(self._try_to_destroy, names), strict=True)
            failures = [(name, error) for name, error in tried if error]
        if failures:
            raise ProviderError(
                f"something of this lab is left on a machine: {failures[0][1].message}",
                mend=f"labctl destroy again when it answers; if it never will, delete {self._records.path(failures[0][0])}",
            )

    # -- parts

    def _looks(self) -> list[tuple[SshMachine, Facts | LabctlError]]:
        """Look at every configured machine, all at the same time."""
        with ThreadPoolExecutor(AT_ONCE, "ssh-look") as pool:
            return list(zip(self._settings.machines, pool.map(self._try_to_look, self._settings.machines), strict=True))

    def _try_to_look(self, machine: SshMachine) -> Facts | LabctlError:
        try:
            return look(machine, self._settings, self._host_key(machine))
        except LabctlError as error:
            return error

    def _try_to_destroy(self, name: str) -> LabctlError | None:
        try:
            self.destroy(name)
        except LabctlError as error:
            return error
        return None

    def _configured(self, name: str) -> SshMachine:
        for machine in self._settings.machines:
            if machine.name == name:
                return machine
        names = ", ".join(machine.name for machine in self._settings.machines) or "none"
        raise ProviderError(f"lab.yml names no machine {name}", mend=f"add it to `machines:`; there are {names}")

    def _host_key(self, machine: SshMachine) -> str:
        return self._records.host_key(machine)

    def _claim(self, machine: SshMachine, facts: Facts) -> Facts:
        """Claim the machine for this lab. It gets the kernel's boot id; if this lab had that boot already, it gets a new one."""
        boot = uuid.uuid4().hex if facts.claim and facts.claim.kernel == facts.kernel else facts.kernel
        words = (self._lab, machine.name, Power.ON.value, facts.kernel, boot)
        text = f"({shell.script('claim')}) || exit\n{shell.script('look')}"
        said = shell.run(machine, self._settings, text, *words, host_key=facts.host_key, check=False)
        if said.status == shell.BELONGS_TO_ANOTHER:
            other = facts.claim.lab if facts.claim else "another lab"
            raise ProviderError(f"{shell.where(machine)} is in use by lab {other}", mend="labctl destroy there, or choose another machine")
        if said.status:
            raise ProviderError(f"{shell.where(machine)} could not be claimed: {said.stderr.strip()}")
        return parse(said.stdout, said.host_key)

    def _end(self, record: Record, how: str) -> None:
        machine = self._newest(record)
        said = shell.run(machine, self._settings, shell.script("end"), self._lab, how, host_key=record.host_key, check=False)
        if said.status not in (0, shell.BELONGS_TO_ANOTHER):
            last = (said.stderr.strip().splitlines() or [f"status {said.status}"])[-1]
            raise ProviderError(f"{shell.where(machine)}: {how} did not end everything: {last}")

    def _newest(self, record: Record) -> SshMachine:
        """Return the machine as lab.yml describes it now, because its key may have been replaced; if it is no longer there, as it was
        recorded.
        """
        return next((machine for machine in self._settings.machines if machine.name == record.machine.name), record.machine)

    def _real(self, record: Record) -> Machine | None:
        """Return the machine's present state, or the last seen one if it does not answer, or None if it is no longer this lab's."""
        machine = self._newest(record)
        try:
            facts = look(machine, self._settings, record.host_key)
        except LabctlError:
            return record.seen
        return self._describe(machine, facts) if facts.claim and facts.claim.lab == self._lab else None

    def _ask(self, name: str) -> Machine | None:
        """Return the machine's present state for a watch. Raises if nothing answers."""
        record = self._records.get(name)
        if not record or not record.seen:
            return None
        machine = self._newest(record)
        facts = look(machine, self._settings, record.host_key)
        return self._describe(machine, facts) if facts.claim and facts.claim.lab == self._lab else None

    def _reach(self, name: str) -> tuple[SshMachine, Path] | None:
        record = self._records.get(name)
        return (self._newest(record), self._records.known_hosts(name, record.host_key)) if record else None

    def _describe(self, machine: SshMachine, facts: Facts) -> Machine:
        power = Power(facts.claim.power) if facts.claim else Power.OFF
        return Machine(
            name=machine.name,
            power=power,
            address=machine.address,
            port=machine.port,
            user=machine.user,
            key_path=machine.key,
            host_key=facts.host_key,
            arch=facts.arch,
            boot_id=facts.boot_id if power is Power.ON else "",
            node_address=facts.node_address(machine.address),
        )
