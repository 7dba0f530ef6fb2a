"""Breaks a machine through its provider. The fault comes at once and the master is not told, as with a real fault."""

from __future__ import annotations

from labctl.errors import LabctlError
from labctl.providers.protocol import Links, PowerControl, Provider, ability

POWER = ("power_off", "reset", "pause", "resume")
LINKS = ("cut", "restore")
"""The methods of PowerControl and of Links."""
FAULTS = (*POWER, *LINKS)


def break_machine(provider: Provider, fault: str, name: str) -> None:
    """Carry out the fault now. Raises LabctlError if the provider can't do it, or if there is no such machine."""
    assert fault in FAULTS
    breaker = ability(provider, PowerControl) if fault in POWER else ability(provider, Links)
    if breaker is None:
        raise LabctlError(f"provider {provider.name} can't {fault.replace('_', '-')} a machine")
    known = provider.machines()
    if name not in known:
        raise LabctlError(f"there is no machine {name}", mend=f"there are {', '.join(sorted(known)) or 'none: labctl up'}")
    getattr(breaker, fault)(name)
