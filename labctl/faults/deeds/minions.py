"""Faults of a minion as a node: a program of labctl's killed, the rules flushed, the clock moved, the DNS server failing. The agent carries them out.

The first two are repaired by those who supervise them; the faults show how soon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labctl.faults.deed import Deed, Site
from labctl.faults.deeds.minion import MinionDeed, NoPlace, Place, on_machine, on_machines
from labctl.resources.kinds.labctl_internal_v1.fault import Fault

PROCESSES = ("agent", "helper", "dns", "sshd")


def _process(fault: Fault) -> Mapping[str, Any]:
    return {"process": fault.parameter("process", PROCESSES[0])}


def _table(fault: Fault) -> Mapping[str, Any]:
    return {"table": fault.parameter("table", "all")}


def _offset(fault: Fault) -> Mapping[str, Any]:
    return {"offsetSeconds": fault.parameter("by")}


def _mode(fault: Fault) -> Mapping[str, Any]:
    return {"mode": fault.parameter("mode", "servfail")}


def _with_process(fault: Fault, site: Site) -> Sequence[Place]:
    if fault.parameter("process", PROCESSES[0]) not in PROCESSES:
        raise NoPlace(f"{fault.parameter('process')} is a process of the master: kill it with the target master")
    return on_machine(fault, site)


KILL_PROCESS = MinionDeed("kill-process", places=_with_process, parameters=_process)
DEEDS: Sequence[Deed] = (
    MinionDeed("flush-rules", places=on_machines, parameters=_table),
    MinionDeed("skew-clock", places=on_machine, parameters=_offset),
    MinionDeed("fail-dns", places=on_machines, parameters=_mode),
)
