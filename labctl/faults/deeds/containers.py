"""Faults of one container: killed, stopped, or burdened by a program that burns its CPU or memory. The agent of its minion carries them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labctl.faults.deed import Deed
from labctl.faults.deeds.minion import MinionDeed, in_container
from labctl.resources.faulttypes import SizeOrShare
from labctl.resources.kinds.labctl_internal_v1.fault import Fault

CPUS = 1.0


def _cpus(fault: Fault) -> Mapping[str, Any]:
    return {"cpus": fault.parameter("cpus", CPUS)}


def _size(fault: Fault) -> Mapping[str, Any]:
    size: SizeOrShare = fault.parameter("size")
    return size.told()


DEEDS: Sequence[Deed] = (
    MinionDeed("kill-container", "stop-container", places=in_container),
    MinionDeed("burn-cpu", places=in_container, parameters=_cpus),
    MinionDeed("burn-memory", places=in_container, parameters=_size),
)
