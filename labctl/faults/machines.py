"""Breaking a machine through its provider: abrupt, and behind the master's back, as a real fault is."""

from __future__ import annotations

from labctl.errors import LabctlError
from labctl.providers.protocol import Links, PowerControl, Provider, ability

POWER = ("power_off", "reset", "pause", "resume")  # as PowerControl calls them
LINKS = ("cut", "restore")  # as Links calls them
FAULTS = (*POWER, *LINKS)


def break_machine(provider: Provider, fault: str, name: str) -> None:
    """Do it now. LabctlError for a fault the provider has no word for, or a machine that is not there."""
    assert fault in FAULTS
    breaker = ability(provider, PowerControl) if fault in POWER else ability(provider, Links)
    if breaker is None:
        raise LabctlError(f"provider {provider.name} can't {fault.replace('_', '-')} a machine")
    known = provider.machines()
    if name not in known:
        raise LabctlError(f"there is no machine {name}", mend=f"there are {', '.join(sorted(known)) or 'none: labctl up'}")
    getattr(breaker, fault)(name)
