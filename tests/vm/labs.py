"""A lab's provider on real virtual machines, for tests beside a libvirtd of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labctl.providers.protocol import Machine, MachineEvent, MachineSpec, Power
from labctl.providers.settings import VagrantSettings
from labctl.providers.vagrant.provider import VagrantProvider
from tests.existing import QUICK

NEEDS_A_LIBVIRTD = pytest.mark.skipif(os.environ.get("LABCTL_VM_INSIDE") != "1", reason="runs beside a libvirtd of its own: make test-vm")
PATIENCE = float(os.environ.get("LABCTL_TEST_PATIENCE", "1"))
BOOT_S = 60 * PATIENCE
CACHE = Path(os.environ.get("LABCTL_CACHE_HOME", "/var/cache/labctl"))


class Lab:
    """One lab's provider, what its watch told, and its machines as they came up."""

    def __init__(self, folder: Path, cache: Path = CACHE, key: Path | None = None) -> None:
        self.folder = folder
        self.cache = cache
        self.id = f"lab-{uuid.uuid4().hex[:8]}"
        self.events: list[MachineEvent] = []
        self.machines: dict[str, Machine] = {}
        self._changed = threading.Condition()
        self.key = folder / ".labctl" / "ssh" / "id_ed25519"
        self.key.parent.mkdir(parents=True)
        if key:
            for suffix in ("", ".pub"):
                shutil.copy(f"{key}{suffix}", f"{self.key}{suffix}")
        else:
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        self.provider = self.another()

    def another(self) -> VagrantProvider:
        """As another process would have it."""
        return VagrantProvider(self.id, self.folder, self.folder / "state", self.cache, VagrantSettings(), print)

    def spec(self, number: int = 1) -> MachineSpec:
        public = self.key.with_suffix(".pub").read_text().strip()
        return MachineSpec(f"minion-{number}", number, 512 << 20, 1.0, f"10.245.1.{10 + number}", 24, public)

    def boot(self) -> None:
        """Two machines, side by side, and a snapshot of them."""
        self.provider.prepare()
        with ThreadPoolExecutor() as pool:
            up = list(pool.map(self.provider.up, [self.spec(1), self.spec(2)]))
        self.machines = {machine.name: machine for machine in up}
        self._booted = self.folder / "booted"
        self._booted.mkdir()
        self.provider.save_machines(self._booted, lambda: None)

    def put_right(self) -> None:
        """The same two are on again, whatever became of them: far quicker than booting others."""
        powers = {name: machine.power for name, machine in self.provider.machines().items()}
        if powers.keys() != {"minion-1", "minion-2"} or Power.OFF in powers.values():
            self.provider.load_machines(self._booted)
        for name in powers:
            self.provider.resume(name)
        self.machines = dict(self.provider.machines())

    def tell(self, event: MachineEvent) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, what: Callable[[MachineEvent], bool], timeout_s: float = 10 * PATIENCE) -> MachineEvent:
        """The first event that is `what`, of those told since `clear`."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(what, self.events)), timeout_s), self.events
            return next(filter(what, self.events))

    def clear(self) -> None:
        with self._changed:
            self.events.clear()

    def on(self, name: str, command: str) -> str:
        address = self.provider.machines()[name].address
        options = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", *QUICK]
        argv = ["ssh", *options, "-i", str(self.key), f"root@{address}", command]
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=BOOT_S, stdin=subprocess.DEVNULL).stdout
