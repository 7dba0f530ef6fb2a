"""Image pulls that fail: the master answers a minion, or all of them, with an error when they ask for an image or for a part of one.

Pods that need an image then wait with ErrImagePull. What a minion has already, it can still start. The master keeps this in memory, in a PullGate that
the routes ask; a new master shuts the gate again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labctl.errors import LabctlError
from labctl.faults.deed import Site
from labctl.faults.deeds.minion import ALL
from labctl.images.gate import PullGate
from labctl.resources.kinds.labctl_internal_v1.fault import Fault


class FailPulls:
    types = ("fail-pulls",)

    def refuse(self, fault: Fault, site: Site) -> str:
        """Refuse nothing about power: a machine may be off, and what it asks for later fails."""
        if site.pulls is None:
            return "this lab has no images"
        if fault.machine != ALL and site.machine(fault.machine) is None:
            return site.why_not_on(fault.machine)
        return ""

    def undo(self, fault: Fault, site: Site) -> Mapping[str, Any]:
        return {}

    async def inject(self, fault: Fault, site: Site) -> Sequence[str]:
        await self.keep(fault, site)
        who = "every machine" if fault.machine == ALL else fault.machine
        return [f"the master answers {who} with an error when it asks for an image"]

    async def keep(self, fault: Fault, site: Site) -> None:
        _gate(site).shut(fault.name, "" if fault.machine == ALL else fault.machine)

    async def heal(self, fault: Fault, site: Site, undo: Mapping[str, Any]) -> Sequence[str]:
        _gate(site).open(fault.name)
        return ["images can be had again"]


def _gate(site: Site) -> PullGate:
    if site.pulls is None:
        raise LabctlError("this lab has no images")
    return site.pulls
