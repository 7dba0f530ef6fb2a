"""Reaching a machine as a person does. The lab's ssh_config works with ssh, scp and Ansible, whatever the provider is."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.errors import LabctlError

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder
    from labctl.providers.protocol import Machine

QUICK = "  KexAlgorithms ^curve25519-sha256\n"
"""For machines that labctl makes, whose traffic never leaves this host: OpenSSH's default, which holds out against quantum computers, too, takes the host a tenth
of a second and an emulated machine a second, more than all else that `ssh minion-1 true` does. Machines that exist already keep the default."""


def ssh_command(lab: LabFolder, name: str, command: tuple[str, ...]) -> list[str]:
    """Return `ssh -F .labctl/ssh_config NAME [COMMAND]`. The command's words are quoted for the machine's shell."""
    config = lab.paths.ssh_config
    known = hosts(config.read_text()) if config.exists() else []
    if name not in known:
        raise LabctlError(f"there is no machine {name} to reach", mend=f"there are {', '.join(known) or 'none: labctl up'}")
    remote = [shlex.join(command)] if len(command) > 1 else list(command)
    return ["ssh", "-F", str(config), name, *remote]


def run(lab: LabFolder, name: str, command: tuple[str, ...], *, check: bool, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run a command on a machine and capture its output."""
    argv = ssh_command(lab, name, command)
    return subprocess.run(argv, text=True, capture_output=True, check=check, timeout=timeout_s, stdin=subprocess.DEVNULL)


def hosts(config: str) -> list[str]:
    """Return the machines that an ssh_config names."""
    return [line.split()[1] for line in config.splitlines() if line.startswith("Host ") and "*" not in line]


def write_config(lab: LabFolder, machines: Iterable[Machine]) -> None:
    """Write `.labctl/ssh_config`, and the file of host keys that ssh compares with."""
    pinned = lab.paths.lab / "known_hosts"
    blocks = [_block(machine, pinned, lab.paths.ssh_key) for machine in machines]
    pinned.write_text("".join(f"{machine.name} {machine.host_key}\n" for machine in machines))
    lab.paths.ssh_config.write_text("# Written by labctl up: ssh -F this-file minion-1\n" + "\n".join(blocks))


def _block(machine: Machine, pinned: Path, key: Path) -> str:
    proxy = f"  ProxyCommand {machine.proxy_command}\n" if machine.proxy_command else ""
    quick = "" if machine.key_path else QUICK
    return (
        f"Host {machine.name}\n  HostName {machine.address}\n  Port {machine.port}\n  User {machine.user}\n"
        f"  IdentityFile {machine.key_path or key}\n  IdentitiesOnly yes\n  HostKeyAlias {machine.name}\n"
        f"  UserKnownHostsFile {pinned}\n  StrictHostKeyChecking yes\n  ConnectTimeout 15\n  LogLevel ERROR\n{quick}{proxy}"
    )
