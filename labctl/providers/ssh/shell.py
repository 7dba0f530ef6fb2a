"""A script on a machine, through the person's own OpenSSH: standard input is the script, standard output its answer.

Who calls it: the other files of this provider, blocking, from threads; the master's own SSH is the remote room's. The host key that was pinned is the
only one accepted; where none is pinned yet, the one that answers is reported, and whoever asked decides. Nothing of ~/.ssh/config is read.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from pathlib import Path

import msgspec

from labctl import assets
from labctl.errors import HostKeyMismatch, ProviderError
from labctl.providers.settings import SshMachine, SshSettings

SSH_FAILED = 255
BELONGS_TO_ANOTHER = 9
"""Exit status of the scripts in templates/ssh/ for a machine that another lab has."""


class Silent(ProviderError):
    """Nobody answers there now. What that means is not known."""


class NoRoot(ProviderError):
    """It answers, but we are not root there."""


class Said(msgspec.Struct, frozen=True):
    status: int
    stdout: str
    stderr: str
    host_key: str


def script(name: str) -> str:
    """Of templates/ssh/."""
    return assets.template(f"ssh/{name}.sh").read_text()


def command(machine: SshMachine, settings: SshSettings, known_hosts: Path, words: list[str]) -> list[str]:
    """The ssh command line; `words` are what runs there, as root."""
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": f"{settings.connect_deadline_s:.0f}",
        "ServerAliveInterval": str(settings.alive_every_s),
        "ServerAliveCountMax": "3",
        "UserKnownHostsFile": str(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes" if known_hosts.stat().st_size else "accept-new",
        "HostKeyAlias": machine.name,
        "HashKnownHosts": "no",
        "UpdateHostKeys": "no",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "LogLevel": "ERROR",
    }
    said = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    remote = ["sudo", "-n", "--", *words] if machine.sudo else words
    where = ["-i", machine.key, "-p", str(machine.port), "-l", machine.user, machine.address]
    return [*settings.command, "-F", "none", "-T", *said, *where, shlex.join(remote)]


def run(
    machine: SshMachine, settings: SshSettings, text: str, *arguments: str, host_key: str = "", deadline_s: float = 0, check: bool = True
) -> Said:
    """Run a script as root. Raises Silent, NoRoot, HostKeyMismatch; ProviderError with its last line if it failed and `check`."""
    with tempfile.TemporaryDirectory(prefix="labctl-ssh-") as folder:
        known = Path(folder) / "known_hosts"
        known.write_text(f"{machine.name} {host_key}\n" if host_key else "")
        argv = command(machine, settings, known, ["/bin/sh", "-s", "--", *arguments])
        try:
            done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=deadline_s or settings.script_deadline_s)
        except FileNotFoundError:
            raise ProviderError("there is no ssh here", mend="apt-get install openssh-client") from None
        except subprocess.TimeoutExpired:
            raise Silent(f"{where(machine)} did not answer in time") from None
        said = Said(done.returncode, done.stdout, done.stderr, host_key or _seen(known))
    if said.status == SSH_FAILED:
        raise _failure(machine, said.stderr)
    if machine.sudo and said.status and said.stderr.startswith("sudo:"):
        raise NoRoot(
            f"{where(machine)}: {said.stderr.strip().splitlines()[0]}",
            mend=f"let {machine.user} use sudo without a password: {machine.user} ALL=(ALL) NOPASSWD: ALL",
        )
    if check and said.status:
        lines = said.stderr.strip().splitlines() or [f"its script ended with status {said.status}"]
        raise ProviderError(f"{where(machine)}: {lines[-1]}")
    return said


def where(machine: SshMachine) -> str:
    port = "" if machine.port == 22 else f":{machine.port}"
    return f"{machine.name} ({machine.user}@{machine.address}{port})"


def _seen(known_hosts: Path) -> str:
    """The key that answered, as it would be pinned."""
    words = known_hosts.read_text().split()
    return " ".join(words[1:3])


def _failure(machine: SshMachine, stderr: str) -> Exception:
    last = (stderr.strip().splitlines() or ["ssh ended without a word"])[-1]
    if "Host key verification failed" in stderr or "IDENTIFICATION HAS CHANGED" in stderr:
        return HostKeyMismatch(
            f"{where(machine)} answered with another SSH host key than the pinned one",
            mend="if it was set up anew, labctl destroy and up; else somebody is between you and it",
        )
    if "Permission denied" in stderr:
        return ProviderError(
            f"{where(machine)}: its sshd does not accept {machine.key}",
            mend=f"ssh-copy-id -i {machine.key} {machine.user}@{machine.address}; a key with a passphrase can't be used",
        )
    return Silent(f"{where(machine)}: {last}", mend="is it on, and does its sshd listen there?")
