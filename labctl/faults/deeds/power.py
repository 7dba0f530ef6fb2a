"""Faults of a machine's power, from outside the machine: power-off, reset and pause. Its provider does them, and nobody in the lab is told.

A power-off is healed by asking for a boot, as `labctl up` does; a paused machine goes on where it was. Each of them is about one boot of the machine:
once the machine has booted again, the fault is over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labctl.errors import LabctlError
from labctl.faults.deed import Site
from labctl.providers.protocol import Power, PowerControl, ability
from labctl.resources.kinds.labctl_internal_v1.fault import Fault
from labctl.resources.kinds.labctl_internal_v1.machine import BOOT_REQUEST
from labctl.resources.plurals import MACHINES

BOOT = "bootID"
SETTLED_S = 5.0  # by then a machine's object says that it is paused


class OfOneBoot:
    """What the deeds of power share."""

    def refuse(self, fault: Fault, site: Site) -> str:
        name = fault.machine
        if why_not := site.why_not_on(name):
            return why_not
        if site.provider is None or ability(site.provider, PowerControl) is None:
            return f"provider {site.provider.name if site.provider else 'none'} can't {fault.spec.type} a machine"
        return ""

    async def probe(self, fault: Fault, site: Site) -> str:
        """Ask the provider, because the object may be a moment behind it."""
        real = await site.real_machine(fault.machine)
        if real is None or real.power is Power.OFF:
            return f"{fault.machine} is off"
        return ""

    def undo(self, fault: Fault, site: Site) -> Mapping[str, Any]:
        machine = site.machine(fault.machine)
        return {BOOT: machine.status.boot_id if machine else ""}

    def over(self, fault: Fault, site: Site) -> str:
        machine = site.machine(fault.machine)
        if machine is None:
            return f"{fault.machine} was destroyed"
        if machine.status.power == "On" and machine.status.boot_id not in ("", fault.status.undo.get(BOOT)):
            return f"{fault.machine} was booted again"
        return ""


class PowerOff(OfOneBoot):
    types = ("power-off",)

    async def inject(self, fault: Fault, site: Site) -> Sequence[str]:
        name = fault.machine
        real = await site.real_machine(name)
        if real is None or real.boot_id != fault.status.undo.get(BOOT):  # done already, by a master that was killed since
            return [f"the power of {name} was cut"]
        await site.blocking(lambda: _control(site).power_off(name))
        return [f"the power of {name} was cut"]

    async def heal(self, fault: Fault, site: Site, undo: Mapping[str, Any]) -> Sequence[str]:
        name = fault.machine
        machine, real = site.machine(name), await site.real_machine(name)
        if machine is None or real is None:
            return [f"{name} is gone"]
        if real.power is not Power.OFF:
            return [f"{name} is on"]
        if machine.spec.power == "Off":
            return [f"{name} stays off, because it was halted"]
        await site.client.patch(MACHINES, name, {"metadata": {"annotations": {BOOT_REQUEST: fault.metadata.uid}}})
        return [f"{name} has power again, and boots"]


class Reset(OfOneBoot):
    types = ("reset",)

    async def inject(self, fault: Fault, site: Site) -> Sequence[str]:
        name = fault.machine
        real = await site.real_machine(name)
        if real is not None and real.power is not Power.OFF and real.boot_id != fault.status.undo.get(BOOT):
            return [f"{name} was reset"]
        await site.blocking(lambda: _control(site).reset(name))
        return [f"{name} was reset"]

    async def heal(self, fault: Fault, site: Site, undo: Mapping[str, Any]) -> Sequence[str]:
        """Boot the machine, but only after a reset that was broken off, which may have left it off."""
        return await PowerOff().heal(fault, site, undo)


class Pause(OfOneBoot):
    types = ("pause",)

    def refuse(self, fault: Fault, site: Site) -> str:
        machine = site.machine(fault.machine)
        if machine is not None and machine.status.power == "Paused":
            return f"{fault.machine} is paused already"
        return super().refuse(fault, site)

    def over(self, fault: Fault, site: Site) -> str:
        machine = site.machine(fault.machine)
        if machine is not None and machine.status.power == "Off":
            return f"{fault.machine} went off"
        seen_s = site.view.seen(MACHINES, fault.machine) - fault.status.injected_monotonic
        if machine is not None and machine.status.power == "On" and seen_s > fault.status.took_seconds + SETTLED_S:
            return f"somebody else resumed {fault.machine}"
        return super().over(fault, site)

    async def inject(self, fault: Fault, site: Site) -> Sequence[str]:
        await site.blocking(lambda: _control(site).pause(fault.machine))
        return [f"{fault.machine} stands still"]

    async def heal(self, fault: Fault, site: Site, undo: Mapping[str, Any]) -> Sequence[str]:
        real = await site.real_machine(fault.machine)
        if real is None or real.power is not Power.PAUSED:
            return [f"{fault.machine} is not paused any more"]
        await site.blocking(lambda: _control(site).resume(fault.machine))
        return [f"{fault.machine} goes on"]


def _control(site: Site) -> PowerControl:
    control = ability(site.its_provider(), PowerControl)
    if control is None:
        raise LabctlError(f"provider {site.its_provider().name} has no power control")
    return control
