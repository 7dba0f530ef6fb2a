"""A minion without a machine: what look.sh and apply.sh would find and do, on a FakeHost."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Callable

from labctl import assets
from labctl.machines import clocks
from labctl.sim.remote import PROGRAMS, FakeHost, Shell


class Minion:
    """`registers(configuration)` is called where the real agent would register its node."""

    def __init__(self, name: str, registers: Callable[[dict[str, object]], None]) -> None:
        self.host = FakeHost(
            host_key=f"ssh-ed25519 FAKE-{name}",
            up=False,
            programs={**PROGRAMS, "sh": self._sh, "date": self._date, "python3": self._python},
        )
        self.wall_s = 0.0  # what its clock shows; it stands still
        self.clock_set: list[float] = []
        self.boot_id = ""
        self.agent = ""  # the hash of the one it has
        self.stamp = ""
        self.files: dict[str, bytes] = {}
        self.starts = 0
        self.pushed: list[list[str]] = []  # the names in each tar
        self.lacks: list[str] = []
        self.sshd_comes_late = False
        self._registers = registers

    def boot(self, boot_id: str) -> None:
        """Its disk stays, nothing runs. (A machine that is thawed is on again with the same boot: what ran, runs.)"""
        if boot_id != self.boot_id:
            self.host.up = not self.sshd_comes_late
            self.boot_id, self.stamp = boot_id, ""

    async def _sh(self, shell: Shell) -> int:
        script = shell.argv[2]
        if script == assets.template("machines/look.sh").read_text():
            await shell.write(self._look().encode())
            return 0
        assert script == assets.template("machines/apply.sh").read_text()
        self._apply(shell.argv[4], shell.argv[5], await shell.read_all())
        return 0

    async def _date(self, shell: Shell) -> int:
        await shell.write(f"{self.wall_s:.9f}\n".encode())
        return 0

    async def _python(self, shell: Shell) -> int:
        assert shell.argv[2] == clocks.SHIFT_CLOCK
        self.wall_s += float(shell.argv[3])
        self.clock_set.append(self.wall_s)
        return 0

    def _look(self) -> str:
        lines = [f"boot {self.boot_id}", "arch x86_64", f"agent {self.agent}  -"]
        if self.stamp:
            lines += [f"stamp {self.stamp}", f"certificate {base64.b64encode(self.files['etc/labctl/agent.crt']).decode()}"]
        return "\n".join(lines + [f"lacks {each}" for each in self.lacks]) + "\n"

    def _apply(self, agent: str, stamp: str, data: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            files = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}  # type: ignore[union-attr]
        self.pushed.append(sorted(files))
        self.files.update(files)
        if f"opt/labctl/{agent}" in files:
            self.agent = files[f"opt/labctl/{agent}"].decode()  # the tests' agent is its own hash
        self.stamp = stamp
        self.starts += 1
        self._registers({"bootID": self.boot_id, **json.loads(self.files["etc/labctl/agent.json"])})
