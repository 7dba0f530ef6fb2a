"""The box of virtual machines: Debian with the packages of a minion. A kernel and an initrd are beside its disk, so no boot loader is
needed.

    packages ── mmdebstrap, provision/*.sh ──► root.tar ── pack.sh ──► root.ext4, vmlinuz, initrd/ ──► box.img (qcow2, zstd) ──► NAME.box

It is in CACHE/boxes/NAME.box, a Vagrant box for libvirt. NAME ends in a hash of everything it is made from, so a changed box has another
name and Vagrant
never confuses them. The same inputs give the same bytes: times are EPOCH's, identities are fixed, archives are sorted.
The provider's `prepare` and `labctl box` call it. It never talks to libvirt or to Vagrant.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from labctl import assets
from labctl.errors import ProviderError
from labctl.providers import debian, locks
from labctl.providers.settings import VagrantSettings
from labctl.providers.vagrant import initrd
from labctl.tarfiles import tarfile

EPOCH = 1_700_000_000  # the time of every file in a box
DISK_BYTES = 10 << 30  # the file is sparse: unwritten blocks take no space
DISK_UUID = "1abc71ab-0000-4000-8000-1abc71ab0000"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_SCRIPTS = ("minion.sh", "vm/kernel.sh", "vm/configure.sh", "vm/init", "vm/pack.sh")
_VAGRANTFILE = """\
# What this box needs of libvirt: its kernel and initrd lie beside it, and its disk is a file system without a boot loader.
# The machine's name, address and key come on the kernel's command line, which labctl's Vagrantfile writes.
Vagrant.configure("2") do |config|
  config.ssh.username = "root"
  config.ssh.sudo_command = "%c"
  config.vm.guest = :debian
  config.vm.allow_hosts_modification = false
  config.vm.allow_fstab_modification = false
  config.vm.provider :libvirt do |libvirt|
    libvirt.kernel = File.join(__dir__, "vmlinuz")
    libvirt.initrd = File.join(__dir__, "initrd")
  end
end
"""


class Built(msgspec.Struct, frozen=True):
    """A box that was built on this machine."""

    name: str  # labctl/minion-amd64-0123456789ab
    path: Path
    size_bytes: int
    current: bool  # whether this labctl would boot from it

    def sha256(self) -> str:
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


class Box:
    """The box for `settings` and this machine's architecture. `get` builds it if there is none."""

    def __init__(self, cache: Path, settings: VagrantSettings, arch: str = "") -> None:
        self._folder = cache / "boxes"
        self._settings = settings
        self.arch = arch or ARCHITECTURES.get(platform.machine(), platform.machine())

    @property
    def name(self) -> str:
        """Return the box's name in Vagrant."""
        digest = hashlib.sha256()
        for part in (self._settings.suite, self._settings.mirror, self.arch, _VAGRANTFILE, *debian.NOT_NEEDED):
            digest.update(part.encode() + b"\0")
        for name in (*_lists(), *_SCRIPTS):
            digest.update(name.encode() + b"\0" + assets.provision(name).read_bytes() + b"\0")
        return f"labctl/minion-{self.arch}-{digest.hexdigest()[:12]}"

    def path(self) -> Path:
        return self._folder / f"{self.name.partition('/')[2]}.box"

    def get(self, progress: Callable[[str], None]) -> Path:
        """Return the file of the complete box. Concurrent callers wait for one build."""
        target = self.path()
        if target.is_file():
            return target
        with locks.exclusive(self._folder / ".lock"):
            if not target.is_file():
                for stale in self._folder.glob(".new-*"):
                    shutil.rmtree(stale, ignore_errors=True)
                self._build(target, progress)
        return target

    def boxes(self) -> list[Built]:
        """Return all boxes that were built here, by this labctl or by others."""
        return [
            Built(f"labctl/{path.stem}", path, path.stat().st_size, path == self.path())
            for path in sorted(self._folder.glob("minion-*.box"))
        ]

    def find(self, name: str) -> Built:
        """Return a box by its name, with or without the part before the slash. ProviderError lists the names that exist."""
        boxes = self.boxes()
        for built in boxes:
            if name in (built.name, built.name.partition("/")[2]):
                return built
        known = ", ".join(each.name for each in boxes) or "none"
        raise ProviderError(f"there is no box {name}", mend=f"there are {known}")

    def remove(self, name: str) -> Built:
        """Delete a box. Machines that were made from it keep their disks."""
        built = self.find(name)
        built.path.unlink(missing_ok=True)
        return built

    def kernel(self, folder: Path) -> tuple[Path, Path]:
        """Unpack (vmlinuz, initrd) of the box into `folder`. `labctl.probe` boots them."""
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(self.path()) as box:
            for member in ("vmlinuz", "initrd"):
                box.extract(member, folder, filter="data")
        return folder / "vmlinuz", folder / "initrd"

    def _build(self, target: Path, progress: Callable[[str], None]) -> None:
        progress(f"building the box from Debian {self._settings.suite} packages (once)")
        scratch = self._folder / f".new-{os.getpid()}"
        scratch.mkdir(parents=True, mode=0o755)
        try:
            self._fill(scratch, progress)
            os.rename(scratch / "whole.box", target)
        except OSError as error:
            raise ProviderError(f"building the box failed: {error}", mend="free some space, or set LABCTL_CACHE_HOME") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _fill(self, scratch: Path, progress: Callable[[str], None]) -> None:
        archive = scratch / "root.tar"
        times = {"SOURCE_DATE_EPOCH": str(EPOCH), "E2FSPROGS_FAKE_TIME": str(EPOCH)}
        scripts = (
            "vm/kernel.sh",
            "minion.sh",
            "vm/configure.sh",
        )  # the kernel comes first, because minion.sh removes the access to the network
        hooks = [debian.in_chroot(script) for script in scripts]
        included = debian.packages(*_lists())
        debian.run(
            "the box", debian.mmdebstrap(archive, self._settings.suite, self._settings.mirror, included, hooks), scratch, progress, times
        )
        progress("packing the disk")
        disk = {"DISK_SIZE": str(DISK_BYTES), "DISK_UUID": DISK_UUID}
        pack = ["sh", str(assets.provision("vm/pack.sh")), str(archive), str(scratch)]
        as_root = [] if os.geteuid() == 0 else ["mmdebstrap", "--unshare-helper"]
        debian.run("the box", [*as_root, *pack], scratch, progress, {**times, **disk})
        (scratch / "initrd" / "init").write_bytes(assets.provision("vm/init").read_bytes())
        (scratch / "initrd" / "init").chmod(0o755)
        image = initrd.archive(scratch / "initrd")
        shutil.rmtree(scratch / "initrd")
        (scratch / "initrd").write_bytes(image)
        qemu = ["qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd", "root.ext4", "box.img"]
        debian.run("the box", ["sh", "-c", f'cd "$0" && {" ".join(qemu)}', str(scratch)], scratch, progress)
        progress("packing the box")
        self._write_box(scratch)

    def _write_box(self, scratch: Path) -> None:
        described = {"provider": "libvirt", "format": "qcow2", "virtual_size": DISK_BYTES >> 30, "architecture": self.arch}
        (scratch / "metadata.json").write_text(json.dumps(described) + "\n")
        (scratch / "Vagrantfile").write_text(_VAGRANTFILE)
        with tarfile.open(scratch / "whole.box", "w", format=tarfile.USTAR_FORMAT) as box:
            for name in ("metadata.json", "Vagrantfile", "vmlinuz", "initrd", "box.img"):
                with open(scratch / name, "rb") as file:
                    member = tarfile.TarInfo(name)
                    member.size, member.mtime, member.mode = os.fstat(file.fileno()).st_size, EPOCH, 0o644
                    box.addfile(member, file)


def _lists() -> list[str]:
    """Return the package lists of every pod network, so that a box serves all of them."""
    return ["packages", "vm/packages", *sorted(path.name for path in assets.provision("").glob("packages.*"))]
