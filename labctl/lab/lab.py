"""`Lab` is what the command line, tests and other programs use. It prints nothing and has no global state: one process can use many labs.

    with Lab("/tmp/demo", minions=2) as lab:
        lab.kubectl("create", "-f", "nginx-rc.yml")

A lab is a folder that contains `.labctl/`. `Lab` writes the wanted state as Machine objects into the API and waits until the master has
reached it.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from labctl.errors import LabctlError, UsageError
from labctl.lab.folder import LabFolder


class Lab(LabFolder):
    """A lab and the operations on it. Each operation may be repeated, also after any process was killed."""

    def up(self, snapshot: str = "") -> dict[str, Any]:
        """Make the lab as its settings say, or as the snapshot of that name has it, and wait until every node is Ready. Return `status()`.

        If a run was interrupted, the next one finishes it. A snapshot replaces the lab's present state.
        """
        from labctl.lab.up import up

        up(self, snapshot)
        return self.status()

    def halt(self, *names: str) -> None:
        """Stop machines in order; without names, stop all of them and the master. Disks and the store stay, and `up` starts them again."""
        from labctl.lab.down import halt

        halt(self, names)

    def destroy(self, *names: str) -> None:
        """Remove machines; without names, remove all of them, the master and the lab's folders. Nothing is left behind."""
        from labctl.lab.down import destroy

        destroy(self, names)

    def status(self) -> dict[str, Any]:
        """Return {"lab", "folder", "provider", "master": {"pid", "url", ...}, "machines": [...], "nodes": [...]}."""
        from labctl.lab.status import status

        return status(self)

    def ssh(self, name: str, command: tuple[str, ...] = ()) -> list[str]:
        """Return the ssh command line that reaches a machine."""
        from labctl.lab.ssh import ssh_command

        return ssh_command(self, name, command)

    def run(self, name: str, *command: str, check: bool = True, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command on a machine over SSH."""
        from labctl.lab.ssh import run

        return run(self, name, command, check=check, timeout_s=timeout_s)

    def why(self, what: str, namespace: str = "default", *, not_on: str = "") -> list[str]:
        """Return sentences that explain the state of `pod/NAME`, `rc/NAME`, `svc/NAME`, `node/NAME`, `machine/NAME` or `fault/NAME`.

        With `not_on`, the name of a node, they say why a pod is not there.
        """
        kind, slash, name = what.partition("/")
        if not slash or not kind or not name or "/" in name:
            raise UsageError(f"{what!r} names no object", mend="write pod/NAME, rc/NAME, svc/NAME, node/NAME, machine/NAME or fault/NAME")
        path = "/".join(quote(part, safe="") for part in (kind, namespace, name))
        return self.api.get(f"/labctl/v1/why/{path}" + (f"?notOn={quote(not_on, safe='')}" if not_on else ""))["lines"]

    def dash(self) -> str:
        """Return an address that opens the live page once, in a browser on this host."""
        api = self.api
        return f"https://127.0.0.1:{api.port}{api.post('/labctl/v1/dash', {})['path']}"

    def fault(self, what: str, name: str) -> None:
        """Breaks a machine now; `what` is one of FAULTS in faults/machines.py. `up` repairs the machine."""
        from labctl.faults.machines import break_machine
        from labctl.lab import providers

        if not self.exists:
            raise LabctlError(f"there is no lab in {self.folder} or above", mend="labctl up")
        break_machine(providers.make(self, self.record["kept"]["provider"]), what, name)

    def __enter__(self) -> Lab:
        """Call `up`.

        If that fails, a lab that did not exist before is destroyed, however much of it was made; one that existed stays as it is.
        """
        was_there = self.exists
        try:
            self.up()
        except BaseException:
            if not was_there and self.exists:
                with suppress(LabctlError):  # the first error is the one to report
                    self.destroy()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.destroy()
