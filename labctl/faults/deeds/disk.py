"""Faults of a minion's disk: full, or slow. The agent carries them out; what fills the disk is a file, and a reboot alone does not remove it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labctl.faults.deed import Deed
from labctl.faults.deeds.minion import MinionDeed, on_machine
from labctl.resources.faulttypes import SizeOrShare
from labctl.resources.kinds.labctl_internal_v1.fault import Fault

LEFT = SizeOrShare(percent=1.0)
RATE_BYTES = 1 << 20


def _left(fault: Fault) -> Mapping[str, Any]:
    left: SizeOrShare = fault.parameter("left", LEFT)
    return left.told()


def _rate(fault: Fault) -> Mapping[str, Any]:
    return {"bytesPerSecond": fault.parameter("rate", RATE_BYTES), "operations": fault.parameter("operations", "both")}


DEEDS: Sequence[Deed] = (
    MinionDeed("fill-disk", places=on_machine, parameters=_left, keeps_on_disk=True),
    MinionDeed("slow-disk", places=on_machine, parameters=_rate),
)
