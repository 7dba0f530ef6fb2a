"""The files from which Vagrant learns about the lab: the Vagrantfile in the lab's folder, and `.labctl/vagrant.json`, which the Vagrantfile
reads.

A folder that has a Vagrantfile keeps it. Otherwise labctl puts its own there, so that `vagrant ssh minion-1` works, and removes it with the
lab.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from labctl import assets
from labctl.errors import ProviderError
from labctl.providers import locks
from labctl.providers.protocol import MachineSpec


class LabFolder:
    """A lab's folder, as Vagrant uses it. `folder` is the person's, and already contains `.labctl`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self._record = folder / ".labctl" / "vagrant.json"

    @property
    def key(self) -> Path:
        return self.path / ".labctl" / "ssh" / "id_ed25519"

    def read(self) -> dict[str, Any]:
        try:
            return json.loads(self._record.read_text())
        except (FileNotFoundError, ValueError):
            return {}

    def write_facts(self, **facts: Any) -> None:
        """Write what is the same for the whole lab: its id, network, box, driver."""
        with locks.exclusive(self._record.with_suffix(".lock")):
            self._write({**self.read(), **facts})
            self._place_vagrantfile()

    def facts(self) -> dict[str, Any]:
        """Return what is the same wherever the lab is: what its machines were made of."""
        return {name: value for name, value in self.read().items() if name in ("network", "box", "driver", "kernel", "initrd")}

    def add(self, spec: MachineSpec, console: Path) -> None:
        """Write what Vagrant must know about one machine."""
        machine = {
            "name": spec.name,
            "number": spec.number,
            "memory": spec.memory_bytes >> 20,
            "cpus": max(1, round(spec.cpus)),
            "console": str(console),
        }
        with locks.exclusive(self._record.with_suffix(".lock")):
            record = self.read()
            machines = {each["name"]: each for each in record.get("machines", [])}
            machines[spec.name] = machine
            self._write({**record, "machines": sorted(machines.values(), key=lambda each: each["number"])})

    def claim(self, name: str, identity: str) -> None:
        """Make a machine known to Vagrant that Vagrant did not make, by libvirt's id."""
        books = self._books(name)
        books.mkdir(parents=True, exist_ok=True)
        for file, text in (("id", identity), ("creator_uid", str(os.getuid())), ("vagrant_cwd", str(self.path))):
            (books / file).write_text(text)

    def disown(self, name: str) -> None:
        """Make Vagrant forget a machine."""
        shutil.rmtree(self._books(name), ignore_errors=True)

    def drop(self, name: str) -> None:
        with locks.exclusive(self._record.with_suffix(".lock")):
            record = self.read()
            self._write({**record, "machines": [each for each in record.get("machines", []) if each["name"] != name]})

    def clear(self) -> None:
        """Remove what labctl wrote into the folder."""
        vagrantfile = self.path / "Vagrantfile"
        if self.read().get("vagrantfile") == "labctl" and vagrantfile.exists():
            vagrantfile.unlink()
            shutil.rmtree(self.path / ".vagrant", ignore_errors=True)
        self._record.unlink(missing_ok=True)
        self._record.with_suffix(".lock").unlink(missing_ok=True)

    def _books(self, name: str) -> Path:
        return self.path / ".vagrant" / "machines" / name / "libvirt"

    def _place_vagrantfile(self) -> None:
        target, ours = self.path / "Vagrantfile", assets.root() / "Vagrantfile"
        if target.exists() and self.read().get("vagrantfile") != "labctl":
            return
        try:
            shutil.copyfile(ours, target)
        except OSError as error:
            raise ProviderError(f"{target}: {error.strerror}", mend="make the lab in a folder you may write to") from error
        self._write({**self.read(), "vagrantfile": "labctl"})

    def _write(self, record: dict[str, Any]) -> None:
        self._record.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._record.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(record, indent=1) + "\n")
        os.replace(temporary, self._record)
