"""The deeds, one file for each family. `builtin()` is the table that the reconciler asks; it is imported when the first fault comes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from labctl.faults.deed import Deed


@cache
def builtin() -> Mapping[str, Deed]:
    """Returns the deed of each type that this labctl can do."""
    from labctl.faults.deeds import containers, disk, minions
    from labctl.faults.deeds.api import ApiTrouble
    from labctl.faults.deeds.links import LinkFault
    from labctl.faults.deeds.power import Pause, PowerOff, Reset
    from labctl.faults.deeds.processes import KillProcess
    from labctl.faults.deeds.pulls import FailPulls

    deeds: tuple[Deed, ...] = (PowerOff(), Reset(), Pause(), LinkFault(), ApiTrouble(), KillProcess(), FailPulls())
    deeds += (*containers.DEEDS, *disk.DEEDS, *minions.DEEDS)
    return {type_: deed for deed in deeds for type_ in deed.types}
