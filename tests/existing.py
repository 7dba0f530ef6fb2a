"""Machines that labctl does not own, for provider ssh: bare machines made here, with an sshd and nothing of a lab on them.

They are namespace machines in a network of their own, so whoever is to reach them runs in it: `rack.inside` begins such a command line.
With LABCTL_TEST_PROVIDER=vagrant they are virtual ones, on which systemd runs and cgroups are version 2's alone; they are reached as they are.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from labctl.providers.namespace.provider import NamespaceProvider
from labctl.providers.protocol import Machine, MachineSpec

GATEWAY = "10.245.1.1"
QUICK = ("-o", "KexAlgorithms=^curve25519-sha256")
"""OpenSSH's default takes a tenth of a second of a processor for each connection, and an emulated machine a second."""
OFFER = """
set -e
cd /srv/debs
for file in *.deb; do
    dpkg-deb -f "$file"
    printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' "$file" "$(stat -c %s "$file")" "$(sha256sum "$file" | cut -d' ' -f1)"
    dpkg --purge "$(dpkg-deb -f "$file" Package)" >&2
done >Packages
echo 'deb [trusted=yes] file:/srv/debs ./' >/etc/apt/sources.list
"""
"""An archive in a folder, in the place of Debian's mirrors."""
BARE = "rm -rf /var/log/labctl /var/log/pods; rmdir --ignore-fail-on-non-empty /opt/labctl /etc/labctl /var/lib/labctl 2>/dev/null; true"
"""Takes away what our images have and stock machines have not. A namespace machine keeps its boot id in /etc/labctl."""


class Rack:
    """Some machines at 10.245.1.11 and on; `close` takes them away."""

    def __init__(self, folder: Path, cache: Path, count: int = 2) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.key = folder / ".labctl" / "ssh" / "id_ed25519"  # where provider vagrant looks for it
        self.key.parent.mkdir(parents=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        lab, state = f"rack-{uuid.uuid4().hex[:8]}", folder / "rack"
        self._namespaces = os.environ.get("LABCTL_TEST_PROVIDER") != "vagrant"
        self._provider: Any = NamespaceProvider(lab, state, cache) if self._namespaces else _virtual(lab, folder, state, cache)
        self.machines: dict[str, Machine] = {}
        try:
            for number in range(1, count + 1):
                self.boot(number)
        except BaseException:
            self.close()
            raise

    def boot(self, number: int) -> Machine:
        public = self.key.with_suffix(".pub").read_text()
        spec = MachineSpec(f"minion-{number}", number, 512 << 20, 1.0, f"10.245.1.{10 + number}", 24, public)
        self.machines[spec.name] = self._provider.up(spec)
        self.on(spec.name, BARE)
        return self.machines[spec.name]

    def power_off(self, name: str) -> None:
        self._provider.power_off(name)

    @property
    def inside(self) -> list[str]:
        """Command line that goes into the machines' network, and nowhere else."""
        if not self._namespaces:
            return []
        return ["nsenter", f"--net=/proc/{self._provider._lab().pid()}/ns/net", "--"]

    def entry(self, name: str, **more: Any) -> dict[str, Any]:
        """As lab.yml would have it."""
        return {"address": self.machines[name].address, "key": str(self.key), **more}

    def on(self, name: str, *words: str, check: bool = True) -> str:
        """A command on a machine, past labctl."""
        done = subprocess.run(self._ssh(name, *words), text=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def _ssh(self, name: str, *words: str) -> list[str]:
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", *QUICK]
        return [*self.inside, "ssh", "-F", "none", *options, "-i", str(self.key), f"root@{self.machines[name].address}", *words]

    def add_user(self, name: str, user: str, sudo: Path) -> None:
        """A user who may do everything through sudo, and logs in with the same key."""
        argv = self._ssh(name, "cat >/tmp/sudo.deb && dpkg -i /tmp/sudo.deb >&2 && rm /tmp/sudo.deb")
        subprocess.run(argv, input=sudo.read_bytes(), check=True, capture_output=True, timeout=60)
        self.on(name, f"useradd -m -s /bin/bash -p '*' {user} && cp -r /root/.ssh /home/{user}/ && chown -R {user}: /home/{user}")
        self.on(name, f"echo '{user} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{user}")

    def offer(self, name: str, package: Path) -> None:
        """The only package that this machine's apt knows, as a mirror's; not installed."""
        argv = self._ssh(name, f"mkdir -p /srv/debs && cat >/srv/debs/{package.name}")
        subprocess.run(argv, input=package.read_bytes(), check=True, timeout=60)
        self.on(name, OFFER)

    def close(self) -> None:
        self._provider.destroy_lab()


def _virtual(lab: str, folder: Path, state: Path, cache: Path) -> Any:
    from labctl.providers.vagrant.provider import VagrantProvider

    provider = VagrantProvider(lab, folder, state, cache)
    provider.prepare()
    return provider


def package(cache: Path, name: str) -> Path:
    """One of Debian's; skips the test where apt can't bring it. `python -m tests.existing CACHE NAME` brings it beforehand, where the test will have no way out."""
    folder = cache / "debs"
    folder.mkdir(parents=True, exist_ok=True)
    found = next(folder.glob(f"{name}_*.deb"), None)
    if found is None:
        done = subprocess.run(["apt-get", "download", "-q", name], cwd=folder, capture_output=True, text=True)
        found = next(folder.glob(f"{name}_*.deb"), None)
        if found is None:
            pytest.skip(f"apt-get download {name}: {done.stderr.strip()[-200:]}")
    return found


if __name__ == "__main__":
    package(Path(sys.argv[1]), sys.argv[2])
