"""Saves virtual machines with their memory into a folder, and makes machines from such a folder that continue where those were.

    FOLDER/lab.json             the lab they belonged to, the Vagrantfile's facts, and each machine: its power, boot, key, and what its disk builds on
    FOLDER/NAME/domain.xml      libvirt's description of it
    FOLDER/NAME/memory.xml      libvirt's description of its internal snapshot, if it was on
    FOLDER/NAME/disk.qcow2      its disk; the internal snapshot in it is its memory and its devices

Saving: every machine's operation lock ─► suspend ─► `meanwhile` ─► QEMU writes the memory into the disk ─► the disks are copied ─► resume.
Loading: present machines ended ─► disks into libvirt's pool ─► domains defined by the new lab's names ─► each reverted to the snapshot in its disk.

Memory goes into the disk (QEMU's savevm) and not into a file beside it (virDomainSave's format). Measured with two machines of 512 MB, that takes
0.2-0.3 s instead of 1.1 s, during which they are paused. There is one file to copy, which also works with libvirt's streams. And libvirt lets a domain
of another name and id revert to it, while it refuses to restore another domain's file. A separate process resumes the suspended machines, so that
they are resumed also if the saving process is killed.

A machine's addresses are in its memory and can't be changed, so two labs from one snapshot can't run at the same time on a host; `check` reports that
beforehand.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from labctl.decoding import from_json
from labctl.errors import ProviderError
from labctl.paths import read_file
from labctl.providers.protocol import MachineSpec, Power
from labctl.providers.settings import VagrantSettings
from labctl.providers.vagrant import shell
from labctl.providers.vagrant.domain import Description, Names
from labctl.providers.vagrant.hypervisor import URI, Hypervisor
from labctl.providers.vagrant.machine import Boot, VagrantMachine

A = TypeVar("A")
T = TypeVar("T")

_AT_A_TIME = 8
_MEMORY = "labctl"  # the internal snapshot's name
# It resumes the machines at the end of its input: that is when the save is done, which it reads, and also when the saving process was killed.
# In the second case libvirt may still carry out the last request, so it looks again for a while.
_RESUME = """
import sys, time, libvirt
libvirt.registerErrorHandler(lambda *_: None, None)
print("ready", flush=True)
done = sys.stdin.read()
ended = time.monotonic()
while time.monotonic() < ended + 120:
    try:
        connection, whole = libvirt.open(sys.argv[1]), True
        for each in sys.argv[2:]:
            try:
                domain = connection.lookupByUUIDString(each)
                if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
                    domain.resume()
            except libvirt.libvirtError as error:
                whole = whole and error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN
        if whole and (done or time.monotonic() > ended + 2):
            break
    except libvirt.libvirtError:
        pass
    time.sleep(0.1)
"""
_POLL_S = 0.1
# A machine out of a snapshot also ends its connections to this host, whose other ends no longer exist, except the one that this command uses (and
# before a new one is made), and asks for a DHCP lease in Vagrant's network. It starts few programs, because each takes an emulated machine 0.1 s.
_LEFT_BEHIND = (
    'set -- $SSH_CONNECTION; { ss -K "dst $1 and not ( sport = :22 and dport = :$2 )" >/dev/null;'
    ' read -r pid </sys/fs/cgroup/system.slice/labctl-dhcp.service/cgroup.procs && kill -USR1 "$pid"; } 2>/dev/null; true'
)


class SavedMachine(msgspec.Struct, frozen=True):
    """One saved machine. `base` is the file in libvirt's pool that the disk builds on; `boots_from` are the kernel and the initrd."""

    spec: MachineSpec
    power: Power
    boot: Boot | None
    host_key: str
    plugged: bool  # its cable into the lab's network
    base: str
    boots_from: tuple[str, ...]


class SavedLab(msgspec.Struct, frozen=True):
    """The content of lab.json."""

    lab: str
    facts: dict[str, Any]  # folder.LabFolder.write_facts
    machines: list[SavedMachine]


def read(folder: Path) -> SavedLab:
    try:
        return from_json(read_file(folder / "lab.json", 1 << 20), SavedLab)
    except (OSError, msgspec.DecodeError) as error:
        raise ProviderError(f"the snapshot's machines can't be read: {error}", mend="labctl snapshot delete, and save it again") from error


# -- saving --------------------------------------------------------------------------------------------------------------------


def save(
    lab: str,
    machines: Sequence[VagrantMachine],
    hypervisor: Hypervisor,
    facts: Mapping[str, Any],
    folder: Path,
    meanwhile: Callable[[], None],
) -> None:
    """Save the machines, as protocol.Snapshots.save_machines says."""
    machines = sorted(machines, key=lambda each: each.name)
    with contextlib.ExitStack() as operations:
        for machine in machines:
            operations.enter_context(machine.operation())
        domains = hypervisor.domains()
        known = [each for each in machines if each.name in domains and each.spec() and each.host_key()]
        there = [_Kept(each, domains[each.name], lab, hypervisor) for each in known]
        on = [each for each in there if each.power is not Power.OFF]
        for each in there:
            (folder / each.name).mkdir(mode=0o700)
            (folder / each.name / "domain.xml").write_text(each.described.text)
            hypervisor.drop_memory(each.domain, _MEMORY)  # left by a save that was killed
        try:
            with _at_rest(hypervisor, [each.domain for each in on if each.power is Power.ON]):
                meanwhile()
                memories = side_by_side(lambda each: hypervisor.save_memory(each.domain, _MEMORY), on)
                side_by_side(lambda each: hypervisor.pool.fetch(each.described.disk, folder / each.name / "disk.qcow2"), there)
        finally:
            for each in on:
                hypervisor.drop_memory(each.domain, _MEMORY)
        for each, memory in zip(on, memories, strict=True):
            (folder / each.name / "memory.xml").write_text(memory)
        saved = SavedLab(lab, dict(facts), [each.record(hypervisor) for each in there])
    (folder / "lab.json").write_bytes(msgspec.json.format(msgspec.json.encode(saved), indent=1))


class _Kept:
    """A machine that is being saved, as it was found."""

    def __init__(self, machine: VagrantMachine, domain: Any, lab: str, hypervisor: Hypervisor) -> None:
        self.name, self.domain = machine.name, domain
        self.power = hypervisor.power(domain)
        self.described = Description(hypervisor.description(domain))
        self._plugged = Description(hypervisor.description(domain, now=True)).plugged(lab)
        self._machine = machine

    def record(self, hypervisor: Hypervisor) -> SavedMachine:
        machine, described = self._machine, self.described
        spec = machine.spec()
        assert spec
        base = hypervisor.pool.base(described.disk)
        return SavedMachine(spec, self.power, machine.boot(), machine.host_key(), self._plugged, base, described.boots_from)


@contextlib.contextmanager
def _at_rest(hypervisor: Hypervisor, domains: Sequence[Any]) -> Iterator[None]:
    """Pause these domains inside the block; whatever happens, they are resumed afterwards.

    Those that a person had paused are not among them.
    """
    if not domains:
        yield
        return
    argv = [sys.executable, "-c", _RESUME, URI, *(domain.UUIDString() for domain in domains)]
    resuming = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    assert resuming.stdin and resuming.stdout
    try:
        resuming.stdout.readline()
        for domain in domains:
            hypervisor.freeze(domain, True)
        yield
    finally:
        resuming.stdin.write(b"done")
        resuming.stdin.close()
        resuming.wait()
        resuming.stdout.close()


# -- loading -------------------------------------------------------------------------------------------------------------------


def check(saved: SavedLab, hypervisor: Hypervisor, network: str) -> None:
    """Raise ProviderError if a load would fail. Nothing is changed."""
    other = hypervisor.same_addresses(network)
    if other:
        raise ProviderError(
            f"{other} on this host has the addresses {network} too, and a snapshot's machines keep theirs",
            mend=f"`labctl destroy` in the folder of {other}",
        )
    for file in sorted({file for machine in saved.machines for file in (machine.base, *machine.boots_from) if file}):
        if not hypervisor.pool.has(file):
            raise ProviderError(f"the snapshot's machines build on {file}, which is gone", mend="labctl snapshot delete, and save it again")


def load(
    saved: SavedLab, lab: str, make: Callable[[str], VagrantMachine], hypervisor: Hypervisor, folder: Path, vagrantfile: Path
) -> list[Any]:
    """Return the domains of `folder` under this lab's names, each on, paused or off as it was.

    Machines with these names were removed before.
    """

    def one(each: SavedMachine) -> Any:
        name = each.spec.name
        machine = make(name)
        machine.keep(each.spec)
        machine.pin(each.host_key)
        disk = hypervisor.pool.put(folder / name / "disk.qcow2", f"{lab}-{name}.img")
        new = Names(lab, name, str(uuid.uuid4()), disk, machine.console, vagrantfile)
        domain = hypervisor.define(_moved(folder / name / "domain.xml", saved.lab, new))
        if each.power is not Power.OFF:
            hypervisor.revert(domain, _moved(folder / name / "memory.xml", saved.lab, new), paused=each.power is Power.PAUSED)
            hypervisor.drop_memory(domain, _MEMORY)
        if each.boot:
            now = hypervisor.domain(name)  # the domain that `define` returned does not know its run
            machine.keep(msgspec.structs.replace(each.boot, run=hypervisor.run(now) if each.power is not Power.OFF else ""))
        return domain

    domains = side_by_side(one, saved.machines)
    hypervisor.pool.refresh()
    return domains


def wake(saved: SavedLab, make: Callable[[str], VagrantMachine], key: Path, settings: VagrantSettings) -> None:
    """Correct the clocks and connections of machines that are on again.

    On return their sshd has answered, except for those whose cable was unplugged.
    """

    def one(each: SavedMachine) -> None:
        address, pinned = each.spec.address, make(each.spec.name).known_hosts
        deadline = time.monotonic() + settings.boot_deadline_s
        attempt_s = settings.ssh_deadline_s
        while not shell.set_clock(address, key, pinned, attempt_s, _LEFT_BEHIND):
            if time.monotonic() > deadline:
                raise ProviderError(f"{each.spec.name} continues, but does not answer on {address}", mend="labctl up")
            time.sleep(_POLL_S)
            attempt_s = min(2 * attempt_s, settings.boot_deadline_s)  # emulated on a busy host it may take minutes, each time anew

    side_by_side(one, [each for each in saved.machines if each.power is Power.ON and each.plugged])


def _moved(file: Path, old_lab: str, new: Names) -> str:
    return Description(file.read_text()).moved(old_lab, new).text


def side_by_side(do: Callable[[A], T], things: Iterable[A]) -> list[T]:
    """Run `do` for all things in parallel. The first failure is raised when all have been tried."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        return [done.result() for done in [pool.submit(do, each) for each in things]]
