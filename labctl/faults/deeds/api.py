"""Faults of the API for one client: its answers come late, or are refused. They live in the master's memory; a new master that finds them active sets them again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from labctl.api.interference import ApiFault
from labctl.faults.deed import Site
from labctl.faults.victims import NODE_USER
from labctl.resources.kinds.labctl_internal_v1.fault import Fault

CODE, RETRY_AFTER_S = "503", 1.0


class ApiTrouble:
    types = ("api-delay", "api-refuse")

    def refuse(self, fault: Fault, site: Site) -> str:
        if site.api is None:
            return "this master serves no API"
        if fault.client.startswith(NODE_USER) and site.machine(fault.client.removeprefix(NODE_USER)) is None:
            return site.why_not_on(fault.client.removeprefix(NODE_USER))
        return ""

    def undo(self, fault: Fault, site: Site) -> Mapping[str, Any]:
        return {"user": fault.client}

    async def inject(self, fault: Fault, site: Site) -> Sequence[str]:
        await self.keep(fault, site)
        given = fault.spec.parameters
        whose = f"{given.get('share', 'all')} of the requests of {fault.client}"
        if fault.spec.type == "api-delay":
            return [f"{whose} are answered {given['time']} late"]
        return [f"{whose} are refused with {given.get('code', CODE)}"]

    async def keep(self, fault: Fault, site: Site) -> None:
        assert site.api is not None
        site.api.put(api_fault(fault))

    async def heal(self, fault: Fault, site: Site, undo: Mapping[str, Any]) -> Sequence[str]:
        if site.api is not None:
            site.api.remove(fault.name)
        return [f"the requests of {fault.client} pass"]


def api_fault(fault: Fault) -> ApiFault:
    """Returns what the API server has to do for this fault."""
    share = fault.parameter("share", 1.0)
    if fault.spec.type == "api-delay":
        return ApiFault(fault.name, fault.client, share, delay_s=fault.parameter("time"))
    code = int(fault.parameter("code", CODE))
    retry_after_s = fault.parameter("retry-after", RETRY_AFTER_S if code != 500 else 0.0)
    return ApiFault(fault.name, fault.client, share, code=code, retry_after_s=math.ceil(retry_after_s))
