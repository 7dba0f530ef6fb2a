"""A namespace lab for tests: its own folder and id, as several processes see it, and what it leaves on the host."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from labctl.providers.namespace.provider import NamespaceProvider
from labctl.providers.protocol import MachineSpec

needs_root = pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="needs Linux and root")


class Lab:
    """One lab in a temporary folder. `provider()` makes another process's view of it: nothing is shared but the state."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.id = f"test-{uuid.uuid4().hex[:8]}"
        self.state = folder / "state"
        self.cache = cache
        self.key = folder / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        self._folder = folder

    def provider(self) -> NamespaceProvider:
        return NamespaceProvider(self.id, self.state, self.cache)

    def spec(self, number: int = 1, memory_bytes: int = 256 << 20, cpus: float = 1.0) -> MachineSpec:
        public = self.key.with_suffix(".pub").read_text()
        return MachineSpec(f"minion-{number}", number, memory_bytes, cpus, f"10.245.1.{10 + number}", 24, public)

    def ssh(self, name: str, command: str, *, timeout_s: float = 20) -> subprocess.CompletedProcess[str]:
        """As a person would, with the pinned key and the ProxyCommand that ssh_config gets."""
        machine = self.provider().machines()[name]
        known = self._folder / f"known-{name}"
        known.write_text(f"{machine.address} {machine.host_key}\n")
        options = {
            "UserKnownHostsFile": known,
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": "5",
            "KexAlgorithms": "^curve25519-sha256",
            "ProxyCommand": machine.proxy_command,
        }
        argv = ["ssh", "-F", "none", "-i", str(self.key), *(f"-o{key}={value}" for key, value in options.items())]
        return subprocess.run([*argv, f"root@{machine.address}", command], capture_output=True, text=True, timeout=timeout_s)

    def leftovers(self) -> list[str]:
        """Everything of this lab that is still on the host."""
        found = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/labctl/{self.id}")]
        found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"labctl/{self.id}")]
        for process in Path("/proc").glob("[0-9]*"):
            if left := self._of_this_lab(process):
                found.append(left)
        found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.state) in line]
        found += [str(path) for part in ("machines", "locks", "trash") for path in (self.state / part).glob("**")]
        return found

    def _of_this_lab(self, process: Path) -> str:
        """Say what a process of this lab is; empty if it is another's, or has ended.

        A process that has ended stays in /proc until its parent asks how, and an orphan's parent is this host's init, which may take seconds.
        Until then it has no command line, and the kernel goes on naming the cgroup that it left: as deleted, which only an empty one can be.
        """
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            groups = [line for line in (process / "cgroup").read_text().splitlines() if not line.endswith(" (deleted)")]
            state = next(line for line in (process / "status").read_text().splitlines() if line.startswith("State:"))
        except OSError:
            return ""
        ours = [text for text in (words, *groups) if self.id in text or str(self.state) in text]
        return f"process {process.name} ({state.split(maxsplit=1)[1]}): {words.strip() or '(no command line)'}; {ours}" if ours else ""
