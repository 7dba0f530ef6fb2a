"""Every fault that was made on this machine, undone, whoever made it. `agent clean` calls it: afterwards nothing of labctl is on the machine."""

from __future__ import annotations

import os
from typing import Any, Dict, List

from ..settings import Settings
from . import burn, clock, disk, keeper


def remove(settings: Settings) -> List[str]:
    """Undo every fault. Return one line for each that could not be undone."""
    left: List[str] = []
    for fault in keeper.faults():
        try:
            keeper.end(fault, _undo)
        except OSError as error:
            left.append(f"fault {fault}: {error}")
    try:
        disk.empty_all(settings)
        if os.path.exists(clock.OFFSET):
            clock.move_back()
    except OSError as error:
        left.append(str(error))
    return left


def _undo(found: Dict[str, Any]) -> None:
    """Undo what a record's keys say was done."""
    if "device" in found:
        disk.undo(found)
    else:
        burn.undo(found)
