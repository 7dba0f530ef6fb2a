"""Joining a real minion: look.sh, apply.sh and agent-run.sh as they are, over SSH, with a small agent in the agent's place."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from labctl.certificates import Authority
from labctl.clock import SystemClock
from labctl.journal import MemoryJournal
from labctl.machines import zipapp
from labctl.machines.join import Join, MissingPrograms, parse
from labctl.machines.settings import LabFacts, MachinesSettings
from labctl.providers.namespace.provider import NamespaceProvider
from labctl.providers.protocol import Machine, MachineSpec
from labctl.remote.process import SshProcess
from labctl.remote.settings import RemoteSettings

AGENT = """
import json, os, signal, sys

def main():
    with open("/etc/labctl/agent.json") as file:
        configuration = json.load(file)
    with open("/etc/labctl/boot_id") as file:
        boot = configuration.get("bootID") or file.read().strip()
    with open("/run/agent-starts", "a") as file:
        file.write(f"%(version)s {os.getpid()} {boot}\\n")
    signal.pause()
"""
SOON_S = 15.0


class Minion:
    def __init__(self, folder: Path, remote: SshProcess, machine: Machine, authority: Authority, lab: LabFacts) -> None:
        self._folder = folder
        self._lab = lab
        self.remote = remote
        self.machine = machine
        self.authority = authority

    def join(self, version: str = "1", settings: MachinesSettings = MachinesSettings()) -> Join:  # noqa: B008 - frozen
        source = self._folder / f"agent-{version}"
        source.mkdir(exist_ok=True)
        (source / "__init__.py").write_text("")
        (source / "__main__.py").write_text(AGENT % {"version": version})
        return Join(self.remote, self.authority, zipapp.build(source=source), self._lab, settings)

    async def starts(self, count: int) -> list[list[str]]:
        """Version, pid and boot id of each start, when there are so many."""
        async with asyncio.timeout(SOON_S):
            while True:
                said = await self.remote.run("minion-1", ["cat", "/run/agent-starts"], check=False)
                lines = [line.split() for line in said.stdout.decode().splitlines()]
                if len(lines) >= count:
                    return lines
                await asyncio.sleep(0.02)

    async def sh(self, script: str) -> str:
        return (await self.remote.run("minion-1", ["sh", "-c", script])).stdout.decode().strip()


@pytest.fixture
def lab(tmp_path: Path) -> LabFacts:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return LabFacts("https://10.245.1.1:6443", str(key), key.with_suffix(".pub").read_text())


@pytest.fixture
async def minion(tmp_path: Path, provider_cache: Path, lab: LabFacts) -> AsyncIterator[Minion]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    provider = NamespaceProvider(f"join-{tmp_path.name}", tmp_path / "state", provider_cache)
    remote = SshProcess(RemoteSettings(), MemoryJournal(SystemClock()))
    try:
        uplink = provider.uplink(0)
        remote.enter(uplink.network_namespace)
        machine = provider.up(MachineSpec("minion-1", 1, 256 << 20, 1.0, "10.245.1.11", 24, lab.authorized_key))
        yield Minion(tmp_path, remote, machine, Authority.create(tmp_path / "pki"), lab)
    finally:
        await remote.close()
        provider.destroy_lab()


@pytest.mark.root
async def test_join_starts_an_agent_and_starts_it_once(minion: Minion) -> None:
    joined = await minion.join()(minion.machine)
    assert joined.changed == "the agent was started"
    assert joined.boot_id == minion.machine.boot_id
    assert (await minion.starts(1))[0][2] == minion.machine.boot_id
    assert (await minion.join()(minion.machine)).changed == ""
    assert len(await minion.starts(1)) == 1
    modes = await minion.sh("stat -c '%a %n' /etc/labctl/* /opt/labctl/agent-*")
    assert all(line.startswith(("600", "700")) for line in modes.splitlines() if "boot_id" not in line), modes
    certificate = (await minion.sh("cat /etc/labctl/agent.crt")).encode() + b"\n"
    assert minion.authority.is_valid(certificate)


@pytest.mark.root
async def test_an_agent_that_dies_is_started_again(minion: Minion) -> None:
    await minion.join()(minion.machine)
    pid = (await minion.starts(1))[0][1]
    await minion.sh(f"kill -9 {pid}")
    assert len(await minion.starts(2)) == 2
    assert (await minion.join()(minion.machine)).changed == ""


@pytest.mark.root
async def test_another_agent_replaces_it_and_disturbs_nothing_else(minion: Minion) -> None:
    await minion.join("1")(minion.machine)
    first = (await minion.starts(1))[0][1]
    pod = await minion.sh("setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $!")
    joined = await minion.join("2")(minion.machine)
    assert joined.changed == "the agent was replaced by another version"
    starts = await minion.starts(2)
    assert [start[0] for start in starts] == ["1", "2"]
    assert await minion.sh(f"test -e /proc/{first} && echo there || echo gone") == "gone"
    assert await minion.sh(f"test -e /proc/{pod} && echo there || echo gone") == "there"
    assert await minion.sh("pgrep -fc agent-ru[n]") == "1"
    for version in ("3", "4"):
        await minion.join(version)(minion.machine)
    assert int(await minion.sh("ls /opt/labctl/*.pyz | wc -l")) == 2, "the one that runs and the one before"


@pytest.mark.root
async def test_what_a_machine_has_is_looked_at_not_remembered(minion: Minion) -> None:
    await minion.join()(minion.machine)
    await minion.starts(1)
    await minion.sh("echo broken >/opt/labctl/agent-broken && ln -sfn agent-broken /opt/labctl/agent")
    assert (await minion.join()(minion.machine)).changed == "the agent was replaced by another version"
    await minion.starts(2)
    await minion.sh("pkill -9 -f agent-ru[n]; pkill -9 -f opt/labctl/agen[t]; true")
    assert (await minion.join()(minion.machine)).changed == "the agent was started"
    await minion.starts(3)


@pytest.mark.root
async def test_a_new_configuration_restarts_it(minion: Minion) -> None:
    await minion.join()(minion.machine)
    await minion.starts(1)
    moved = msgspec.structs.replace(minion.machine, arch="arm64")
    assert (await minion.join()(moved)).changed == "the agent was restarted with a new configuration"
    await minion.starts(2)
    assert '"arch": "arm64"' in await minion.sh("cat /etc/labctl/agent.json")


async def test_what_this_labs_network_needs_is_missed_before_anything_is_pushed(minion: Minion) -> None:
    with pytest.raises(MissingPrograms, match="lacks carrier-pigeon: ") as caught:
        await minion.join(settings=MachinesSettings(programs=("ip", "carrier-pigeon")))(minion.machine)
    assert "provision/packages" in caught.value.mend
    assert await minion.sh("ls /opt/labctl") == ""


def test_look_is_read_line_by_line() -> None:
    found = parse("boot b-1\narch aarch64\nagent 0abc  -\nstamp s\ncertificate LS0=\nlacks crun\nlacks conmon\n")
    assert (found.boot, found.arch, found.agent, found.stamp, found.certificate) == ("b-1", "aarch64", "0abc", "s", b"--")
    assert found.lacks == ("crun", "conmon")
    assert parse("") == parse("boot \nagent \n")


def test_a_look_that_says_anything_is_bounded_and_no_mistake_of_ours() -> None:
    """Its programs are the machine's, and root there puts what it likes in the place of `base64` or `uname`."""
    found = parse(f"boot {'b' * 10_000}\narch {'a' * 10_000}\nstamp s\ncertificate A\n")
    assert found.certificate == b"" and max(len(found.boot), len(found.arch)) <= 200
