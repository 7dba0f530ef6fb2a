"""Joining makes a node of a machine whose sshd answers. It takes two commands over SSH, or one if the machine has everything already.

    look.sh    reports what the machine has: the agent's hash, the stamp of what runs, its certificate
    apply.sh   reads one tar on standard input, puts the missing files in place, and restarts the agent

machines.py calls this for every boot of a machine and at every start of the master. It never restarts an agent for which nothing changed,
never touches
a pod, and remembers nothing: the machine itself reports what it has.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

import msgspec

from labctl import assets
from labctl.certificates import Authority
from labctl.errors import RemoteError
from labctl.machines import status
from labctl.machines.settings import LabFacts, MachinesSettings
from labctl.machines.zipapp import Agent
from labctl.providers.protocol import Machine
from labctl.remote.interface import Remote, Target

DIRECTORIES = {"opt/labctl": 0o755, "etc/labctl": 0o755, "var/lib/labctl/agent": 0o700, "var/log/labctl": 0o755, "var/log/pods": 0o755}
PROGRAMS = ("opt/labctl/agent-run", "opt/labctl/agent-resume")
WORD_MAX = 200
"""Characters of what a machine says of itself that is kept. Its root may say anything."""
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Found(msgspec.Struct, frozen=True):
    """What look.sh reports. `stamp` and `certificate` are empty if no agent runs."""

    boot: str = ""
    arch: str = ""
    agent: str = ""
    stamp: str = ""
    certificate: bytes = b""
    lacks: tuple[str, ...] = ()


class Joined(msgspec.Struct, frozen=True):
    """The result of joining."""

    boot_id: str
    arch: str
    changed: str  # a sentence: what was done


class MissingPrograms(RemoteError):
    """The machine lacks programs that a minion needs. Trying again does not help before somebody installs them."""


class Join:
    """Joins the machines of one lab; several at the same time."""

    def __init__(self, remote: Remote, authority: Authority, agent: Agent, lab: LabFacts, settings: MachinesSettings) -> None:
        import jinja2  # it takes 25 ms, which must not delay the API's first answer

        self._remote = remote
        self._authority = authority
        self._agent = agent
        self._lab = lab
        self._settings = settings
        self._look = _text("machines/look.sh")
        self._apply = _text("machines/apply.sh")
        self._run = assets.provision("agent-run.sh").read_bytes()
        self._resume = assets.provision("agent-resume.sh").read_bytes()
        self._unit = jinja2.Template(_text("machines/labctl-agent.service.j2"))

    async def __call__(self, machine: Machine) -> Joined:
        """Join a machine. Raises RemoteError: Unreachable, HostKeyMismatch, Deadline, CommandFailed, MissingPrograms."""
        await self._remote.connect(target(machine, self._lab))
        found = await self.look(machine.name)
        if found.lacks:
            raise MissingPrograms(
                f"{machine.name} lacks {', '.join(found.lacks)}",
                mend="install on it the packages of provision/packages, and of provision/packages.NETWORK",
            )
        boot_id = machine.boot_id or found.boot
        files = self._files(machine, "" if boot_id == found.boot else boot_id)
        stamp = _stamp(files, self._agent)
        why = self._why(found, stamp)
        if why:
            await self._push(machine.name, found, files, stamp)
        return Joined(boot_id, ARCHITECTURES.get(found.arch, found.arch), why)

    async def look(self, name: str) -> Found:
        """Run look.sh on the machine."""
        result = await self._remote.run(
            name, ["/bin/sh", "-c", self._look, "look", *self._settings.programs], deadline_s=self._settings.join_deadline_s
        )
        return parse(result.stdout.decode(errors="replace"))

    def _why(self, found: Found, stamp: str) -> str:
        """Return why something must be sent to the machine, or an empty text if nothing must."""
        if not found.stamp:
            return "the agent was started"
        if found.agent != self._agent.hash:
            return "the agent was replaced by another version"
        if found.stamp != stamp:
            return "the agent was restarted with a new configuration"
        if not self._authority.is_valid(found.certificate):
            return "the agent got a new certificate"
        return ""

    async def _push(self, name: str, found: Found, files: Mapping[str, bytes], stamp: str) -> None:
        issued = self._authority.node(name)
        members = {**files, "etc/labctl/agent.crt": issued.certificate, "etc/labctl/agent.key": issued.key}
        if found.agent != self._agent.hash:
            members[f"opt/labctl/{self._agent.file}"] = self._agent.data
        argv = ["/bin/sh", "-c", self._apply, "join", self._agent.file, stamp]
        await self._remote.run(name, argv, stdin=_tar(members), deadline_s=self._settings.join_deadline_s)
        self._remote.reset_helper(name)

    def _files(self, machine: Machine, boot_id: str) -> dict[str, bytes]:
        """Return the files that a machine gets besides the agent and its certificate. The stamp is a hash of them.

        They don't contain the lab's id, because a machine out of a snapshot may belong to another lab. Nor do they contain the boot id, if
        the machine
        knows it itself (look.sh and the agent read it in the same way): so an agent that agent-resume started has the right configuration.
        """
        return {
            "opt/labctl/agent-run": self._run,
            "opt/labctl/agent-resume": self._resume,
            "opt/labctl/labctl-agent.service": self._unit.render(node=machine.name).encode(),
            "etc/labctl/ca.crt": self._authority.certificate_pem,
            "etc/labctl/agent.json": json.dumps(self._configuration(machine, boot_id), indent=1).encode() + b"\n",
        }

    def _configuration(self, machine: Machine, boot_id: str) -> dict[str, Any]:
        settings = self._settings
        return {
            "node": machine.name,
            "url": self._lab.url,
            **({"bootID": boot_id} if boot_id else {}),
            **({"relayAddress": self._lab.relay_address} if self._lab.relay_address else {}),
            "address": status.address(machine),
            "arch": machine.arch,
            "podMTU": settings.pod_mtu_bytes,
            "clusterDNS": list(settings.cluster_dns),
            "clusterDomain": settings.cluster_domain,
            "leaseSeconds": settings.lease_s,
            "leaseDurationSeconds": max(1, round(settings.grace_s)),
            **({"peers": True} if settings.peers else {}),
            "drainSeconds": settings.drain_s,
            "backoffSeconds": settings.backoff_s,
        }


def target(machine: Machine, lab: LabFacts) -> Target:
    """Return how SSH reaches a machine. The boot id is the generation, because a connection to an earlier boot is of no use."""
    return Target(
        name=machine.name,
        address=machine.address,
        port=machine.port,
        user=machine.user,
        key_path=machine.key_path or lab.key_path,
        host_key=machine.host_key,
        generation=machine.boot_id,
        sudo=machine.user != "root",
    )


def parse(text: str) -> Found:
    """Parse the output of look.sh."""
    words: dict[str, str] = {}
    lacks: list[str] = []
    for line in text.splitlines():
        word, _, value = line.partition(" ")
        if word == "lacks":
            lacks.append(value.strip())
        else:
            words[word] = value.strip()
    return Found(
        boot=words.get("boot", "")[:WORD_MAX],
        arch=words.get("arch", "")[:WORD_MAX],
        agent=words.get("agent", "").partition(" ")[0],
        stamp=words.get("stamp", ""),
        certificate=_decoded(words.get("certificate", "")),
        lacks=tuple(lacks),
    )


def _decoded(certificate: str) -> bytes:
    """Return the certificate; nothing if the machine says what is no base64, and then it gets another."""
    try:
        return base64.b64decode(certificate)
    except ValueError:
        return b""


def _stamp(files: Mapping[str, bytes], agent: Agent) -> str:
    digest = hashlib.sha256(agent.hash.encode())
    for name in sorted(files):
        digest.update(b"%s %d\n%s" % (name.encode(), len(files[name]), files[name]))
    return digest.hexdigest()[:32]


def _tar(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, mode in DIRECTORIES.items():
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            archive.addfile(folder)
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mode = 0o700 if name in PROGRAMS else 0o600
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _text(template: str) -> str:
    return assets.template(template).read_text()
