"""Kills the master itself, or its SSH process, with SIGKILL. Nothing is healed: who starts the master again, and its supervisor, do that."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from labctl.faults.deed import Site
from labctl.remote.interface import OwnProcess
from labctl.resources.kinds.labctl_internal_v1.fault import Fault

PROCESSES = ("master", "ssh")


class KillMasterProcess:
    types = ("kill-process",)

    def refuse(self, fault: Fault, site: Site) -> str:
        process = _process(fault)
        if process not in PROCESSES:
            return f"{process} is a process of a machine: name the machine as the target"
        if process == "ssh" and not _ssh_pid(site):
            return "the master has no SSH process now"
        return ""

    def undo(self, fault: Fault, site: Site) -> Mapping[str, Any]:
        return {"process": site.process, "sshPid": _ssh_pid(site)}

    async def inject(self, fault: Fault, site: Site) -> Sequence[str]:
        undo = fault.status.undo
        if _process(fault) == "master":
            if undo.get("process") != site.process:
                return ["the master was killed, and was started again"]
            site.kill_master()
            await asyncio.Event().wait()  # nothing of this process goes on
        if undo.get("process") == site.process and undo.get("sshPid") == _ssh_pid(site):
            with contextlib.suppress(ProcessLookupError):
                os.kill(undo["sshPid"], signal.SIGKILL)
        return ["the master's SSH process was killed"]

    async def heal(self, fault: Fault, site: Site, undo: Mapping[str, Any]) -> Sequence[str]:
        return []


def _process(fault: Fault) -> str:
    process: str = fault.parameter("process", PROCESSES[0])
    return process


def _ssh_pid(site: Site) -> int:
    return site.remote.pid if isinstance(site.remote, OwnProcess) else 0
