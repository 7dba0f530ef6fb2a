"""The vagrant provider's parts that need no virtual machine: what is remembered, what Vagrant is told, what errors say, which accelerator."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from labctl import assets
from labctl.errors import ProviderError
from labctl.providers.protocol import MachineSpec
from labctl.providers.settings import VagrantSettings
from labctl.providers.vagrant import accelerator, command, console, hypervisor, probe, shell
from labctl.providers.vagrant.box import Box
from labctl.providers.vagrant.folder import LabFolder
from labctl.providers.vagrant.machine import Boot, VagrantMachine

SPEC = MachineSpec("minion-1", 1, 1 << 30, 0.5, "10.245.1.11", 24, "ssh-ed25519 AAAA labctl")


# -- the lab's folder


def test_a_folder_gets_the_vagrantfile_and_is_left_as_it_was(tmp_path: Path) -> None:
    folder = LabFolder(tmp_path)
    folder.write_facts(lab="lab-1", box="labctl/x")
    folder.add(SPEC, tmp_path / "console.log")
    assert (tmp_path / "Vagrantfile").read_text() == (assets.root() / "Vagrantfile").read_text()
    assert folder.read()["machines"] == [
        {"name": "minion-1", "number": 1, "memory": 1024, "cpus": 1, "console": str(tmp_path / "console.log")}
    ]
    folder.clear()
    assert [path.name for path in tmp_path.rglob("*")] == [".labctl"]


def test_a_vagrantfile_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "Vagrantfile").write_text("mine")
    folder = LabFolder(tmp_path)
    folder.write_facts(lab="lab-1")
    folder.write_facts(lab="lab-1")
    folder.clear()
    assert (tmp_path / "Vagrantfile").read_text() == "mine"


def test_machines_are_added_at_the_same_time_in_order_and_dropped(tmp_path: Path) -> None:
    folder = LabFolder(tmp_path)
    specs = [MachineSpec(f"minion-{n}", n, 1 << 30, 1.0, f"10.245.1.{10 + n}", 24, "key") for n in range(1, 9)]
    threads = [threading.Thread(target=folder.add, args=(spec, tmp_path / "log")) for spec in reversed(specs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    folder.drop("minion-3")
    assert [machine["number"] for machine in folder.read()["machines"]] == [1, 2, 4, 5, 6, 7, 8]


# -- one machine's memory


def test_what_is_kept_is_read_back_and_a_torn_file_is_nothing(tmp_path: Path) -> None:
    machine = VagrantMachine(tmp_path / "minion-1")
    assert machine.spec() is None and machine.boot() is None and machine.host_key() == ""
    machine.keep(SPEC)
    machine.keep(Boot("boot-a", "run-1"))
    assert (machine.spec(), machine.boot()) == (SPEC, Boot("boot-a", "run-1"))
    (machine.folder / "boot.json").write_text('{"boot_')
    assert machine.boot() is None
    machine.forget_boot()
    machine.forget_boot()
    machine.known_hosts.write_text("machine ssh-ed25519 AAAAC3Nza\n")
    assert machine.host_key() == "ssh-ed25519 AAAAC3Nza"


# -- errors


@pytest.mark.parametrize(
    ("said", "message", "mend"),
    [
        ("Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory", "libvirtd is not running", "systemctl"),
        ("Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied", "you may not use", "usermod -aG libvirt"),
        ("internal error: Network is already in use by interface virbr1", "addresses are in use", "addresses.machines"),
        ("cannot set up guest memory 'pc.ram': Cannot allocate memory", "not enough memory", "--memory"),
        ("cannot write: No space left on device", "no room is left", "free some space"),
        ("something else", "libvirt: something else", ""),
    ],
)
def test_libvirts_words_become_one_line_and_a_mend(said: str, message: str, mend: str) -> None:
    error = hypervisor.explain(Exception(said))
    assert message in error.message and mend in error.mend and "\n" not in str(error)


@pytest.mark.parametrize(
    ("said", "message", "mend"),
    [
        (
            "The provider 'libvirt' could not be found, but was requested to\nback the machine 'minion-1'.",
            "vagrant-libvirt is missing",
            "apt-get",
        ),
        ("The box 'labctl/minion-amd64-1' could not be found or\ncould not be accessed", "its box is missing", "labctl box build"),
        ("Call to virDomainDefineXML failed: Permission denied", "you may not use libvirt's socket", "usermod"),
        ("Name `lab-1-minion-1` of domain about to create is already taken.", "a machine of this name exists", "labctl destroy"),
        ("==> minion-1: Importing\nThe machine broke\nin two lines", "vagrant up failed: The machine broke in two lines", "doctor"),
    ],
)
def test_vagrants_words_become_one_line_and_a_mend(said: str, message: str, mend: str) -> None:
    error = command.explain("vagrant up", said)
    assert message in error.message and mend in error.mend and "\n" not in str(error)


# -- what is looked at beforehand


@pytest.mark.parametrize(
    ("routes", "user"),
    [
        ([{"dst": "default", "dev": "eth0"}, {"dst": "10.246.0.0/16", "dev": "tun0"}], ""),
        ([{"dst": "10.245.1.0/24", "dev": "lcmine"}], ""),
        ([{"dst": "10.0.0.0/8", "dev": "tun0"}], "tun0"),
        ([{"dst": "10.245.1.7", "dev": "docker0"}], "docker0"),
    ],
)
def test_addresses_that_this_host_knows_elsewhere_are_found(routes: list[dict[str, str]], user: str) -> None:
    assert probe.routed("10.245.1.0/24", json.dumps(routes), "lcmine") == user


def test_machines_that_want_more_memory_than_is_free_are_found() -> None:
    assert not list(probe._memory(1 << 30, "MemAvailable:    2000000 kB\n"))
    (found,) = probe._memory(4 << 30, "MemTotal: 9000000 kB\nMemAvailable:    2000000 kB\n")
    assert (found.level, found.found) == ("warning", "the machines want 4096 MiB of memory, and 1953 MiB are free")


# -- gathering starts


class Recorded(command.Vagrant):
    def __init__(self, failure: Exception | None = None) -> None:
        self.calls: list[tuple[list[str], bool]] = []
        self._failure = failure

    def up(self, names: list[str], provision: bool, enough: command.Enough) -> None:
        self.calls.append((names, provision))
        if self._failure:
            raise self._failure


def test_starts_at_about_the_same_time_are_one_command() -> None:
    vagrant = Recorded()
    starts = command.Starts(vagrant)
    for future in [starts.ask("minion-1", False), starts.ask("minion-2", False)]:
        future.result(5)
    starts.ask("minion-3", False).result(5)
    assert vagrant.calls == [(["minion-1", "minion-2"], False), (["minion-3"], False)]


def test_a_start_that_fails_fails_for_all_who_asked() -> None:
    starts = command.Starts(Recorded(ProviderError("no")))
    futures = [starts.ask("minion-1", False), starts.ask("minion-2", False)]
    for future in futures:
        with pytest.raises(ProviderError, match="no"):
            future.result(5)


class Endless(command.Vagrant):
    """A `vagrant up` that holds on to a machine that is gone."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def up(self, names: list[str], provision: bool, enough: command.Enough) -> None:
        self.begun.set()
        command.until_enough(["sleep", "600"], enough)


def test_a_command_that_outlives_its_use_may_linger_unless_somebody_waits_for_its_end() -> None:
    vagrant = Endless()
    starts = command.Starts(vagrant)
    futures = [starts.ask("minion-1", False), starts.ask("minion-2", False)]
    vagrant.begun.wait(5)
    starts.answers("minion-1")
    with pytest.raises(TimeoutError):
        starts.wait(0.5)  # one of its machines does not answer yet
    starts.answers("minion-2")
    for future in futures:
        future.result(5)


def test_it_is_ended_a_moment_after_all_its_machines_answer() -> None:
    enough = command.Enough(linger_s=0.5)
    enough.reached()
    begun = time.monotonic()
    command.until_enough(["sleep", "600"], enough)
    assert 0.5 <= time.monotonic() - begun < 5


def test_a_command_that_fails_by_itself_has_failed() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        command.until_enough(["false"], command.Enough())


# -- the accelerator


def guest(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_a_kernel_that_speaks_and_ends_means_kvm() -> None:
    assert accelerator.attempt(guest("print('labctl: a kernel boots here')")).driver == "kvm"


def test_a_kernel_that_speaks_but_does_not_end_means_kvm_too() -> None:
    program = "import time; print('labctl: a kernel boots here', flush=True); time.sleep(60)"
    assert accelerator.attempt(guest(program), deadline_s=1).driver == "kvm"


def test_a_kernel_that_hangs_means_emulation_and_says_so() -> None:
    found = accelerator.attempt(guest("import time; print('Booting from ROM', flush=True); time.sleep(60)"), deadline_s=0.5)
    assert found.driver == "qemu" and "hangs on this host's /dev/kvm" in found.why


def test_what_qemu_says_is_handed_on() -> None:
    found = accelerator.attempt(guest("import sys; sys.exit('failed to initialize kvm: Permission denied')"))
    assert found.driver == "qemu" and "Permission denied" in found.why


def test_the_verdict_is_kept_until_the_box_changes(tmp_path: Path) -> None:
    nowhere = tmp_path / "kvm"
    box = Box(tmp_path, VagrantSettings())
    assert accelerator.choose(box, tmp_path, nowhere).driver == "qemu"
    kept = json.loads((tmp_path / "accelerator.json").read_text())
    (tmp_path / "accelerator.json").write_text(json.dumps({**kept, "why": "as it was"}))
    assert accelerator.choose(box, tmp_path, nowhere).why == "as it was"
    other = Box(tmp_path, VagrantSettings(suite="trixie"))
    assert accelerator.choose(other, tmp_path, nowhere).why != "as it was"


# -- the box


def test_what_goes_in_decides_the_boxs_name(tmp_path: Path) -> None:
    names = {
        Box(tmp_path, VagrantSettings()).name,
        Box(tmp_path, VagrantSettings(suite="trixie")).name,
        Box(tmp_path, VagrantSettings(), arch="arm64").name,
    }
    assert len(names) == 3
    assert Box(tmp_path, VagrantSettings(network="10.9.0.0/24", box="x")).name in names


def test_boxes_are_listed_and_removed_by_either_name(tmp_path: Path) -> None:
    box = Box(tmp_path, VagrantSettings())
    other = tmp_path / "boxes" / "minion-amd64-000000000000.box"
    other.parent.mkdir()
    other.write_bytes(b"1234")
    box.path().write_bytes(b"12345678")
    assert {built.name: (built.size_bytes, built.current) for built in box.boxes()} == {
        "labctl/minion-amd64-000000000000": (4, False),
        box.name: (8, True),
    }
    box.remove("minion-amd64-000000000000")
    box.remove(box.name)
    with pytest.raises(ProviderError, match="there is no box"):
        box.remove(box.name)


def test_nobody_there_does_not_greet() -> None:
    assert not shell.greets("127.0.0.1", deadline_s=0.2)


# -- the console


def test_the_console_tells_the_boot_that_wrote_last(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    assert console.last_boot(log) is None
    log.write_bytes(b"\x1b[0mlabctl: boot boot-a\r\n")
    assert console.last_boot(log) is None  # its sshd has no key yet
    log.write_bytes(log.read_bytes() + b"[  5.1] labctl: host key ssh-ed25519 AAAA\r\n")
    assert console.last_boot(log) == ("boot-a", "ssh-ed25519 AAAA")
    log.write_bytes(log.read_bytes() + b"labctl: boot boot-b\r\n")
    assert console.last_boot(log) is None  # it was reset, and has not got there again
    log.write_bytes(log.read_bytes() + b"labctl: host key ssh-ed25519 AAAA\r\n")
    assert console.last_boot(log) == ("boot-b", "ssh-ed25519 AAAA")
