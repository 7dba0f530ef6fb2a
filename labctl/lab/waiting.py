"""Waiting for something to become true, with an end: for what follows a lab from outside (smoke, the tour)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from labctl.errors import LabctlError

T = TypeVar("T")
_POLL_S = 0.05


def wait_until(look: Callable[[], T], what: str, timeout_s: float, *, seen: Callable[[], str] = str) -> T:
    """Ask `look()` until it answers something true, and answer that. LabctlError says what never happened, and what `seen()` says then."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > deadline:
            state = seen()
            raise LabctlError(f"not within {timeout_s:.0f} s: {what}" + (f"\n{state}" if state else ""))
        time.sleep(_POLL_S)
    return found
