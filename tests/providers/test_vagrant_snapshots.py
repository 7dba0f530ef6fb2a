"""What of a virtual machine's snapshot needs no virtual machine: the description under other names, what is refused, files in and out of the pool."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from labctl.errors import ProviderError
from labctl.providers.protocol import MachineSpec, Power
from labctl.providers.settings import VagrantSettings
from labctl.providers.vagrant import snapshots
from labctl.providers.vagrant.domain import Description, Names
from labctl.providers.vagrant.folder import LabFolder
from labctl.providers.vagrant.hypervisor import closed_network
from labctl.providers.vagrant.machine import Boot, VagrantMachine
from labctl.providers.vagrant.pool import copy, write_with_holes

SPEC = MachineSpec("minion-1", 1, 1 << 30, 1.0, "10.245.1.11", 24, "ssh-ed25519 AAAA labctl")
DOMAIN = """\
<{tag} type='qemu'><name>lab-1-minion-1</name><uuid>1111</uuid><description>Source: /old/Vagrantfile</description>
  <os><kernel>/pool/vmlinuz</kernel><initrd>/pool/initrd</initrd><cmdline>labctl.mac=52:54:00:00:00:01 labctl.name=lab-1</cmdline></os>
  <devices>
    <disk><source file='/pool/lab-1-minion-1.img'/><target dev='vda'/></disk>
    <interface type='network'><mac address='52:54:00:99:99:99'/><source network='vagrant-libvirt'/></interface>
    <interface type='network'><mac address='52:54:00:00:00:01'/><source network='lab-1'/><link state='{link}'/></interface>
    <serial type='file'><source path='/old/console.log'/></serial>
    <console type='file'><source path='/old/console.log'/></console>
    <rng><backend model='random'>/dev/random</backend></rng>
  </devices>
</{tag}>"""
SNAPSHOT = f"""\
<domainsnapshot><name>labctl</name><state>paused</state>{DOMAIN.format(tag="domain", link="up")}{DOMAIN.format(tag="inactiveDomain", link="up")}
  <cookie><cpu><model>qemu64</model></cpu></cookie></domainsnapshot>"""
NEW = Names("lab-2", "minion-1", "2222", "/pool/lab-2-minion-1.img", Path("/new/console.log"), Path("/new/Vagrantfile"))


def test_a_machine_under_another_labs_names_has_the_same_hardware() -> None:
    root = ElementTree.fromstring(Description(DOMAIN.format(tag="domain", link="up")).moved("lab-1", NEW).text)
    assert (root.findtext("name"), root.findtext("uuid")) == ("lab-2-minion-1", "2222")
    assert root.findtext("description") == "Source: /new/Vagrantfile"
    assert [source.attrib for source in root.iter("source")] == [
        {"file": "/pool/lab-2-minion-1.img"}, {"network": "vagrant-libvirt"}, {"network": "lab-2"},
        {"path": "/new/console.log"}, {"path": "/new/console.log"},
    ]  # fmt: skip
    assert [mac.get("address") for mac in root.iter("mac")] == ["52:54:00:99:99:99", "52:54:00:00:00:01"]
    assert root.findtext("./os/cmdline") == "labctl.mac=52:54:00:00:00:01 labctl.name=lab-1"
    assert root.findtext("./devices/rng/backend") == "/dev/random"


def test_so_has_every_description_in_that_of_its_memory_and_the_rest_stays() -> None:
    root = ElementTree.fromstring(Description(SNAPSHOT).moved("lab-1", NEW).text)
    assert [root.findtext(f"./{kind}/name") for kind in ("domain", "inactiveDomain")] == ["lab-2-minion-1"] * 2
    assert "lab-1-minion" not in ElementTree.tostring(root, encoding="unicode")
    assert (root.findtext("name"), root.findtext("./cookie/cpu/model")) == ("labctl", "qemu64")


def test_what_is_read_out_of_a_description() -> None:
    plugged, cut = (Description(DOMAIN.format(tag="domain", link=state)) for state in ("up", "down"))
    assert plugged.disk == "/pool/lab-1-minion-1.img"
    assert plugged.boots_from == ("/pool/vmlinuz", "/pool/initrd")
    assert plugged.plugged("lab-1") and not cut.plugged("lab-1")


class Host:
    """libvirt, as far as a check asks: the pool's files, and whose network has the addresses."""

    def __init__(self, files: set[str], other: str = "") -> None:
        self.pool, self._files, self._other = self, files, other

    def has(self, path: str) -> bool:
        return path in self._files

    def same_addresses(self, network: str) -> str:
        return self._other


def test_what_would_fail_is_said_beforehand_with_the_mend() -> None:
    machine = snapshots.SavedMachine(SPEC, Power.ON, Boot("boot", "run"), "ssh-ed25519 AAAA", True, "/pool/box", ("/pool/vmlinuz",))
    saved = snapshots.SavedLab("lab-1", {}, [machine])
    snapshots.check(saved, Host({"/pool/box", "/pool/vmlinuz"}), "10.245.1.0/24")  # type: ignore[arg-type]
    with pytest.raises(ProviderError, match="build on /pool/box, which is gone") as gone:
        snapshots.check(saved, Host({"/pool/vmlinuz"}), "10.245.1.0/24")  # type: ignore[arg-type]
    assert "save it again" in gone.value.mend
    with pytest.raises(ProviderError, match="lab-3 on this host has the addresses 10.245.1.0/24 too") as taken:
        snapshots.check(saved, Host({"/pool/box", "/pool/vmlinuz"}, "lab-3"), "10.245.1.0/24")  # type: ignore[arg-type]
    assert "labctl destroy" in taken.value.mend


@pytest.mark.parametrize("content", [None, b"{", b'{"lab": "lab-1"}'])
def test_a_folder_that_is_no_snapshot_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "lab.json").write_bytes(content)
    with pytest.raises(ProviderError, match="can't be read"):
        snapshots.read(tmp_path)


def test_the_host_is_known_by_the_same_address_in_another_lab_and_by_another_in_another_range() -> None:
    """A machine that goes on has it in its memory: it would answer nobody for half a minute."""

    def mac(lab: str, network: str) -> str:
        [element] = ElementTree.fromstring(closed_network(lab, "bridge", IPv4Network(network))).iter("mac")
        return str(element.get("address"))

    assert mac("lab-1", "10.245.1.0/24") == mac("lab-2", "10.245.1.0/24") != mac("lab-2", "10.245.2.0/24")
    assert mac("lab-1", "10.245.1.0/24").startswith("52:54:00:")


# -- Vagrant's books


def test_vagrant_is_told_of_a_machine_that_it_did_not_make(tmp_path: Path) -> None:
    folder = LabFolder(tmp_path)
    folder.write_facts(lab="lab-2", box="labctl/x", driver="qemu", provision="/p")
    folder.add(SPEC, tmp_path / "console.log")
    folder.claim("minion-1", "2222")
    folder.add(SPEC, tmp_path / "console.log")  # as each boot does
    assert [machine["name"] for machine in folder.read()["machines"]] == ["minion-1"]
    assert (tmp_path / ".vagrant/machines/minion-1/libvirt/id").read_text() == "2222"
    assert folder.facts() == {"box": "labctl/x", "driver": "qemu"}, "what another lab takes over: not ids, not paths of this one"
    folder.disown("minion-1")
    assert not (tmp_path / ".vagrant/machines/minion-1/libvirt").exists()


# -- files


def sparse(path: Path) -> bytes:
    """A file of 1 MB of which 128 KB are something, at its begin and before its end."""
    text = b"begin".ljust(64 << 10, b"b") + bytes(832 << 10) + b"end".ljust(64 << 10, b"e") + bytes(64 << 10)
    path.write_bytes(text)
    return text


def test_a_copied_disk_has_holes_where_nothing_is(tmp_path: Path) -> None:
    text = sparse(tmp_path / "disk")
    copy(tmp_path / "disk", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == text
    assert os.stat(tmp_path / "copy").st_blocks * 512 <= 192 << 10
    with pytest.raises(ProviderError, match="can't be copied"):
        copy(tmp_path / "nothing", tmp_path / "other")


@pytest.mark.parametrize("piece", [1 << 10, 64 << 10, 100_000, 1 << 20])
def test_so_has_one_that_came_through_a_stream(tmp_path: Path, piece: int) -> None:
    text = sparse(tmp_path / "disk")
    with open(tmp_path / "copy", "wb") as file:
        for begin in range(0, len(text), piece):
            assert write_with_holes(file, text[begin : begin + piece]) == len(text[begin : begin + piece])
        file.truncate(file.tell())
    assert (tmp_path / "copy").read_bytes() == text
    assert os.stat(tmp_path / "copy").st_blocks * 512 <= 320 << 10


def test_a_machine_that_takes_long_for_a_connection_is_given_longer_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulated machine on a busy host. Attempts that all ended after the same time were all in vain, and the restore failed."""
    (tmp_path / "ssh").write_text("#!/bin/sh\nsleep 0.5; echo ready; read -r now\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    machine = snapshots.SavedMachine(SPEC, Power.ON, Boot("boot", "run"), "ssh-ed25519 AAAA", True, "/pool/box", ())
    settings = VagrantSettings(boot_deadline_s=8.0, ssh_deadline_s=0.1)
    snapshots.wake(snapshots.SavedLab("lab-1", {}, [machine]), lambda name: VagrantMachine(tmp_path / name), tmp_path / "key", settings)
