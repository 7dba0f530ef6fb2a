"""Faults of a machine's link to the lab's network, from outside the machine. They last until they are healed, or until the machine boots: then it has a new link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labctl.errors import LabctlError
from labctl.faults.deed import Site
from labctl.faults.deeds.power import OfOneBoot
from labctl.providers.protocol import Links, ability
from labctl.resources.kinds.labctl_internal_v1.fault import Fault


class Cut(OfOneBoot):
    """The whole cable is pulled."""

    types = ("cut",)

    def refuse(self, fault: Fault, site: Site) -> str:
        if why_not := site.why_not_on(fault.machine):
            return why_not
        if fault.spec.peer or fault.direction != "both":
            return "only a whole link can be cut"
        if site.provider is None or ability(site.provider, Links) is None:
            return f"provider {site.provider.name if site.provider else 'none'} can't cut a machine's link"
        return ""

    async def inject(self, fault: Fault, site: Site) -> Sequence[str]:
        await site.blocking(lambda: _links(site).cut(fault.machine))
        return [f"the link of {fault.machine} was cut"]

    async def heal(self, fault: Fault, site: Site, undo: Mapping[str, Any]) -> Sequence[str]:
        await site.blocking(lambda: _links(site).restore(fault.machine))
        return [f"the link of {fault.machine} is whole again"]


def _links(site: Site) -> Links:
    links = ability(site.its_provider(), Links)
    if links is None:
        raise LabctlError(f"provider {site.its_provider().name} can't break links")
    return links
