"""Moves the machine's clock by an offset, and back. Only a machine with a clock of its own allows it.

A file says by how much the clock is wrong on purpose. The master reads it whenever it corrects clocks, so that it keeps the offset and not the time. A
reboot sets the clock right and empties the file's folder.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Dict, Sequence

from ..runtime.records import read_json, write_json
from . import machine
from .request import Request

OFFSET = "/run/labctl-clock-offset"
OFFSET_S_MAX = 10 * 365 * 86_400.0


def look(asked: Request) -> str:
    asked.number("offsetSeconds", -OFFSET_S_MAX, OFFSET_S_MAX)
    if machine.is_container():
        return "this machine is a container: its clock is its host's"
    return "" if machine.may_set_clock() else "the clock of this machine is not to be set: the capability SYS_TIME is missing"


def skew(asked: Request) -> Sequence[str]:
    refused = look(asked)
    if refused:
        raise OSError(refused)
    offset_s = asked.number("offsetSeconds", -OFFSET_S_MAX, OFFSET_S_MAX)
    _finish()
    if not offset():
        _move(offset_s, offset_s)
    return [f"the clock was moved by {offset_s:+g} s"]


def correct(_asked: Request) -> Sequence[str]:
    before_s = move_back()
    return [f"the clock was moved back by {-before_s:+g} s"] if before_s else ["the clock was not moved any more"]


def move_back() -> float:
    """Set the clock right, and return by how many seconds it was ahead on purpose."""
    _finish()
    before_s = offset()
    if before_s:
        _move(0.0, -before_s)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(OFFSET)
    return before_s


def offset() -> float:
    """Return by how many seconds the clock is ahead on purpose."""
    return float(_told().get("offset", 0.0))


def _told() -> Dict[str, float]:
    return read_json(OFFSET) or {}


def _move(offset_s: float, by_s: float) -> None:
    """Move the clock, which is wrong by `offset_s` then. The file says what is about to happen, so that a kill at any moment can be mended."""
    write_json(OFFSET, {"offset": offset_s, "by": by_s, "base": _base()})
    _shift(by_s)
    write_json(OFFSET, {"offset": offset_s})


def _finish() -> None:
    """Make the move that was begun and not made: the clock still has the distance to the monotonic one that it had before."""
    told = _told()
    if "by" in told:
        if abs(_base() - told["base"]) < abs(told["by"]) / 2:
            _shift(told["by"])
        write_json(OFFSET, {"offset": told["offset"]})


def _base() -> float:
    return time.time() - time.monotonic()


def _shift(by_s: float) -> None:
    time.clock_settime(time.CLOCK_REALTIME, time.time() + by_s)
