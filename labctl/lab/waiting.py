"""Waiting with a deadline until something becomes true, for programs that follow a lab from outside (smoke, the tour)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from labctl.errors import LabctlError

T = TypeVar("T")
_POLL_S = 0.05


def wait_until(look: Callable[[], T], what: str, timeout_s: float, *, seen: Callable[[], str] = str) -> T:
    """Call `look()` until it returns something true, and return that.

    LabctlError says what never happened, and what `seen()` returns then.
    """
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > deadline:
            state = seen()
            raise LabctlError(f"not within {timeout_s:.0f} s: {what}" + (f"\n{state}" if state else ""))
        time.sleep(_POLL_S)
    return found
