"""Runs a script on a machine, through the person's own OpenSSH. The script goes to standard input, and its answer comes from standard
output.

The other files of this provider call it, from threads, and it blocks; the master's own SSH is in the remote room. Only the pinned host
key is accepted. If none is pinned yet, the key that answers is reported, and the caller decides. ~/.ssh/config is not read.
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
"""The exit status of the scripts in templates/ssh/ if the machine belongs to another lab."""


class Silent(ProviderError):
    """The machine does not answer now. Why is not known."""


class NoRoot(ProviderError):
    """The machine answers, but the user can't become root there."""


class Answer(msgspec.Struct, frozen=True):
    """What a script answered, and the host key that the machine showed."""

    status: int
    stdout: str
    stderr: str
    host_key: str


def script(name: str) -> str:
    """Return the text of a script in templates/ssh/."""
    return assets.template(f"ssh/{name}.sh").read_text()


def command(machine: SshMachine, settings: SshSettings, known_hosts: Path, words: list[str]) -> list[str]:
    """Return the ssh command line; `words` are run there as root."""
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
) -> Answer:
    """Run a script as root. Raises Silent, NoRoot or HostKeyMismatch.

    If the script fails and `check` is set, ProviderError has its last line.
    """
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
        said = Answer(done.returncode, done.stdout, done.stderr, host_key or _seen(known))
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
    """Return the host key that answered, in the form in which it is pinned."""
    words = known_hosts.read_text().split()
    return " ".join(words[1:3])


def _failure(machine: SshMachine, stderr: str) -> Exception:
    last = (stderr.strip().splitlines() or ["ssh ended without a message"])[-1]
    if "Host key verification failed" in stderr or "IDENTIFICATION HAS CHANGED" in stderr:
        return HostKeyMismatch(
            f"{where(machine)} answered with another SSH host key than the pinned one",
            mend="if it was installed again, labctl destroy and up; otherwise somebody may be intercepting the connection",
        )
    if "Permission denied" in stderr:
        return ProviderError(
            f"{where(machine)}: its sshd does not accept {machine.key}",
            mend=f"ssh-copy-id -i {machine.key} {machine.user}@{machine.address}; a key with a passphrase can't be used",
        )
    return Silent(f"{where(machine)}: {last}", mend="is it on, and does its sshd listen there?")
