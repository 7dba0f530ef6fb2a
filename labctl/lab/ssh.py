"""Reaching a machine as a person does. The lab's ssh_config works with ssh, scp and Ansible, whatever the provider is."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING

from labctl.errors import LabctlError
from labctl.paths import write_whole

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder
    from labctl.providers.protocol import Machine

OUTPUT_BYTES_MAX = 128 << 20  # what `export` collects has half of that at most
QUICK = "  KexAlgorithms ^curve25519-sha256\n"
"""For machines that labctl makes, whose traffic never leaves this host: OpenSSH's default, which holds out against quantum computers, too, takes the host a tenth
of a second and an emulated machine a second, more than all else that `ssh minion-1 true` does. Machines that exist already keep the default."""


def ssh_command(lab: LabFolder, name: str, command: tuple[str, ...]) -> list[str]:
    """Return `ssh -F .labctl/ssh_config NAME [COMMAND]`. The command's words are quoted for the machine's shell."""
    if lab.moved_from:
        raise LabctlError(f"this lab was in {lab.moved_from} when its ssh_config was written", mend="labctl up")
    config = lab.paths.ssh_config
    known = hosts(config.read_text()) if config.exists() else []
    if name not in known:
        raise LabctlError(f"there is no machine {name} to reach", mend=f"there are {', '.join(known) or 'none: labctl up'}")
    remote = [shlex.join(command)] if len(command) > 1 else list(command)
    return ["ssh", "-F", str(config), name, *remote]


def run(
    lab: LabFolder, name: str, command: tuple[str, ...], *, check: bool, timeout_s: float, most_bytes: int = OUTPUT_BYTES_MAX
) -> subprocess.CompletedProcess[str]:
    """Run a command on a machine and capture its output. Raises LabctlError if it says more than `most_bytes`, and subprocess's errors if it takes
    too long or, with `check`, fails."""
    argv = ssh_command(lab, name, command)
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe) as process, ThreadPoolExecutor(2) as pool:
        assert process.stdout is not None and process.stderr is not None
        out, err = (pool.submit(_at_most, stream, most_bytes, process) for stream in (process.stdout, process.stderr))
        try:
            status = process.wait(timeout_s)
        finally:
            process.kill()
        if max(len(out.result()), len(err.result())) > most_bytes:
            raise LabctlError(f"{name} said more than {most_bytes} bytes")
        done = subprocess.CompletedProcess(argv, status, out.result().decode(errors="replace"), err.result().decode(errors="replace"))
        if check:
            done.check_returncode()
        return done


def _at_most(stream: IO[bytes], most_bytes: int, process: subprocess.Popen[bytes]) -> bytes:
    """Read a stream to its end. Who says too much is not heard any longer."""
    data = stream.read(most_bytes + 1)
    if len(data) > most_bytes:
        process.kill()
    return data


def hosts(config: str) -> list[str]:
    """Return the machines that an ssh_config names."""
    return [line.split()[1] for line in config.splitlines() if line.startswith("Host ") and "*" not in line]


def write_config(lab: LabFolder, machines: Iterable[Machine]) -> None:
    """Write `.labctl/ssh_config`, and the file of host keys that ssh compares with."""
    pinned = lab.paths.lab / "known_hosts"
    blocks = [_block(machine, pinned, lab.paths.ssh_key) for machine in machines]
    write_whole(pinned, "".join(f"{machine.name} {machine.host_key}\n" for machine in machines).encode())
    write_whole(lab.paths.ssh_config, ("# Written by labctl up: ssh -F this-file minion-1\n" + "\n".join(blocks)).encode())


def _quoted(path: Path | str) -> str:
    """Return a path as ssh_config(5) takes it. ssh would divide it at spaces, unquote quotes, and put what it knows in the place of `%h`."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _block(machine: Machine, pinned: Path, key: Path) -> str:
    proxy = f"  ProxyCommand {machine.proxy_command.replace('%', '%%')}\n" if machine.proxy_command else ""
    quick = "" if machine.key_path else QUICK
    return (
        f"Host {machine.name}\n  HostName {machine.address}\n  Port {machine.port}\n  User {machine.user}\n"
        f"  IdentityFile {_quoted(machine.key_path or key)}\n  IdentitiesOnly yes\n  HostKeyAlias {machine.name}\n"
        f"  UserKnownHostsFile {_quoted(pinned)}\n  StrictHostKeyChecking yes\n  ConnectTimeout 15\n  LogLevel ERROR\n{quick}{proxy}"
    )
