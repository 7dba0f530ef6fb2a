"""Runs a command in a virtual machine that is made for it and destroyed afterwards: in_vm.py CACHE DISK COMMAND...

Provider vagrant makes the machine, without an agent or a master. DISK, an image with a file system, is mounted at /labctl in it.
tools/test_in_vm.sh uses this.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

from labctl.providers.protocol import Machine, MachineSpec
from labctl.providers.settings import VagrantSettings
from labctl.providers.vagrant.provider import VagrantProvider

NETWORK, ADDRESS = "10.244.99.0/24", "10.244.99.11"  # another range than that of the labs inside the machine
MEMORY_BYTES, CPUS = 3 << 30, 2
DEADLINE_S = float(os.environ.get("LABCTL_IN_VM_DEADLINE_S", "1800"))


def main(cache: str, disk: str, *command: str) -> int:
    with tempfile.TemporaryDirectory(prefix="labctl-in-vm-", dir="/var/tmp") as scratch:
        folder, identity = Path(scratch), f"in-vm-{uuid.uuid4().hex[:8]}"
        key = folder / ".labctl" / "ssh" / "id_ed25519"
        key.parent.mkdir(parents=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        provider = VagrantProvider(identity, folder, folder / "state", Path(cache), VagrantSettings(network=NETWORK), say)
        try:
            provider.prepare()
            public = key.with_suffix(".pub").read_text().strip()
            machine = provider.up(MachineSpec("minion-1", 1, MEMORY_BYTES, CPUS, ADDRESS, 24, public))
            domain = f"{identity}-{machine.name}"
            lend = [
                "virsh",
                "-q",
                "attach-disk",
                domain,
                disk,
                "vdb",
                "--driver",
                "qemu",
                "--subdriver",
                "raw",
                "--cache",
                "unsafe",
                "--live",
            ]
            subprocess.run(lend, check=True, timeout=60)
            on(machine, key, "mkdir /labctl; until mount /dev/vdb /labctl 2>/dev/null; do sleep 0.2; done", timeout_s=60)
            return on(machine, key, shlex.join(command), timeout_s=DEADLINE_S)
        except subprocess.TimeoutExpired as expired:
            say(f"{expired.cmd[-1]}: not done after {expired.timeout:.0f} s")
            return 124
        finally:
            provider.destroy_lab()


def on(machine: Machine, key: Path, command: str, timeout_s: float) -> int:
    options = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-i", str(key)]
    return subprocess.run(
        ["ssh", *options, f"{machine.user}@{machine.address}", command], timeout=timeout_s, stdin=subprocess.DEVNULL
    ).returncode


def say(line: str) -> None:
    print(f"in_vm: {line}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
