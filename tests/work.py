"""Counts how much Python does, so that a test can tell work that grows with a lab from work that does not. Times would say less: they differ from run to run."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def calls(work: Callable[[], object], function: str = "") -> int:
    """Return how many calls of Python functions `work` makes; with a name, those of functions of that name."""
    made = 0

    def count(frame: FrameType, event: str, _arg: Any) -> None:
        nonlocal made
        made += event == "call" and function in ("", frame.f_code.co_name)

    before, collects = sys.getprofile(), gc.isenabled()
    gc.disable()  # it calls what others left to be called when their objects end
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()
    return made
