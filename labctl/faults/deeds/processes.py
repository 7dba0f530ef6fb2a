"""Kills a process of labctl's own: of a minion by its agent, of the master by the master itself. The target says which deed it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labctl.faults.deed import Deed, Probes, Site
from labctl.faults.deeds import minions
from labctl.faults.deeds.master import KillMasterProcess
from labctl.resources.kinds.labctl_internal_v1.fault import Fault


class KillProcess:
    """`by_target` has a deed for each form of target: machine, master."""

    types = ("kill-process",)

    def __init__(self, by_target: Mapping[str, Deed] = {"machine": minions.KILL_PROCESS, "master": KillMasterProcess()}) -> None:  # noqa: B006 - never changed
        self._by_target = by_target

    def refuse(self, fault: Fault, site: Site) -> str:
        if fault.form not in self._by_target:
            return f"this labctl can't kill a process of the {fault.form}"
        return self._by_target[fault.form].refuse(fault, site)

    async def probe(self, fault: Fault, site: Site) -> str:
        deed = self._by_target[fault.form]
        return await deed.probe(fault, site) if isinstance(deed, Probes) else ""

    def undo(self, fault: Fault, site: Site) -> Mapping[str, Any]:
        return self._by_target[fault.form].undo(fault, site)

    async def inject(self, fault: Fault, site: Site) -> Sequence[str]:
        return await self._by_target[fault.form].inject(fault, site)

    async def heal(self, fault: Fault, site: Site, undo: Mapping[str, Any]) -> Sequence[str]:
        return await self._by_target[fault.form].heal(fault, site, undo)
