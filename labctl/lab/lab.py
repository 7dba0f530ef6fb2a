"""`Lab`: the one door for the command line, tests and other programs. Prints nothing, holds no globals; many labs in one process are fine.

    with Lab("/tmp/demo", minions=2) as lab:
        lab.kubectl("create", "-f", "nginx-rc.yml")

A lab is a folder with `.labctl/` in it. What `Lab` wants it writes as Machine objects into the API and waits; the master makes them true.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from typing import Any

from labctl.errors import LabctlError, UsageError
from labctl.lab.folder import LabFolder


class Lab(LabFolder):
    """A lab and what can be done to it. Each verb may be run again, or after a kill -9 of anything."""

    def up(self, snapshot: str = "") -> dict[str, Any]:
        """Make the lab as its settings say, or as a snapshot of that name has it, and wait until every node is Ready; answers `status()`.

        Run again it finishes what was half done. A snapshot takes the place of what the lab is.
        """
        from labctl.lab.up import up

        up(self, snapshot)
        return self.status()

    def halt(self, *names: str) -> None:
        """Stop machines in order (all, and the master, without names). Disks and the store stay; `up` goes on from there."""
        from labctl.lab.down import halt

        halt(self, names)

    def destroy(self, *names: str) -> None:
        """Remove machines (all, the master and the lab's folders, without names). Leaves nothing behind."""
        from labctl.lab.down import destroy

        destroy(self, names)

    def status(self) -> dict[str, Any]:
        """{"lab", "folder", "provider", "master": {"pid", "url", ...}, "machines": [...], "nodes": [...]}."""
        from labctl.lab.status import status

        return status(self)

    def ssh(self, name: str, command: tuple[str, ...] = ()) -> list[str]:
        """The ssh command line that reaches a machine."""
        from labctl.lab.ssh import ssh_command

        return ssh_command(self, name, command)

    def run(self, name: str, *command: str, check: bool = True, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command on a machine over SSH."""
        from labctl.lab.ssh import run

        return run(self, name, command, check=check, timeout_s=timeout_s)

    def why(self, what: str, namespace: str = "default") -> list[str]:
        """Sentences: why `pod/NAME`, `rc/NAME` or `svc/NAME` is as it is."""
        kind, slash, name = what.partition("/")
        if not slash or not kind or not name:
            raise UsageError(f"{what!r} names nothing", mend="write pod/NAME, rc/NAME, svc/NAME or node/NAME")
        return self.api.get(f"/labctl/v1/why/{kind}/{namespace}/{name}")["lines"]

    def fault(self, what: str, name: str) -> None:
        """Break a machine now: power_off, reset, pause or resume. Healing it is `up`'s work."""
        from labctl.faults.machines import break_machine
        from labctl.lab import providers

        if not self.exists:
            raise LabctlError(f"there is no lab in {self.folder} or above", mend="labctl up")
        break_machine(providers.make(self, self.record["kept"]["provider"]), what, name)

    def __enter__(self) -> Lab:
        """`up`. If that fails, a lab that was not there before is destroyed again, whatever of it was made; one that was there stays as it is."""
        was_there = self.exists
        try:
            self.up()
        except BaseException:
            if not was_there and self.exists:
                with suppress(LabctlError):  # the first error is the one to tell
                    self.destroy()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.destroy()
