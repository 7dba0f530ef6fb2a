"""What is remembered of one machine, in STATE/ID/machines/NAME: small files, each written atomically.

spec.json    what was asked for
boot.json    the boot that answered last, and the domain's run to which it belongs
end.json     how that boot is being ended, written before it happens, so that the watch can report it
known_hosts  its pinned host key
console.log  its kernel's output, written by QEMU
"""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import msgspec

from labctl.decoding import from_json
from labctl.providers import locks
from labctl.providers.protocol import MachineSpec
from labctl.providers.vagrant import shell

T = TypeVar("T")


class Boot(msgspec.Struct, frozen=True):
    """A boot that has answered."""

    boot_id: str
    run: str  # from Hypervisor.run; the boot has ended when the domain's run is another one
    arch: str = "amd64"


class End(msgspec.Struct, frozen=True):
    """How a boot is being ended."""

    boot_id: str
    reason: str
    intended: bool


class VagrantMachine:
    """One machine's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name

    @property
    def lock(self) -> Path:
        """Return the lock that whoever boots, halts or destroys it holds.

        It is beside the folder, because destroying removes the folder.
        """
        return self.folder.parent.parent / "locks" / self.name

    def operation(self) -> AbstractContextManager[int]:
        """Keep others from booting, halting, saving or destroying it inside the block."""
        return locks.exclusive(self.lock)

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    def busy(self) -> bool:
        return locks.busy(self.lock)

    def spec(self) -> MachineSpec | None:
        return self._read("spec.json", MachineSpec)

    def boot(self) -> Boot | None:
        return self._read("boot.json", Boot)

    def end(self) -> End | None:
        return self._read("end.json", End)

    def host_key(self) -> str:
        return shell.host_key(self.known_hosts)

    def pin(self, host_key: str) -> None:
        """Pin the host key that the machine itself printed."""
        if host_key and host_key != self.host_key():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.known_hosts.write_text(f"machine {host_key}\n")

    def keep(self, record: MachineSpec | Boot | End) -> None:
        name = {MachineSpec: "spec.json", Boot: "boot.json", End: "end.json"}[type(record)]
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{name}.{os.getpid()}"
        temporary.write_bytes(msgspec.json.encode(record))
        os.replace(temporary, self.folder / name)

    def forget_boot(self) -> None:
        (self.folder / "boot.json").unlink(missing_ok=True)

    def forget_end(self) -> None:
        (self.folder / "end.json").unlink(missing_ok=True)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, name: str, type_: type[T]) -> T | None:
        try:
            return from_json((self.folder / name).read_bytes(), type_)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None
