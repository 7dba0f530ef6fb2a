"""Sets the clock of a machine that has its own clock. A machine that was paused, restored or asleep has missed time, and nothing else corrects it.

The worker of a machine does this, and not the provider when it resumes a machine: a machine may also be resumed without the provider (by libvirt's own
tools, or when the host wakes up), and the worker notices each case. Also, a power switch should not wait for an SSH login. While there is no master,
nothing of the lab depends on the clock; the next master joins the machine first, which corrects it. Only loading a snapshot sets clocks by itself
(providers.protocol.Snapshots), because pods continue at once, before there is a master.

The machine's clock is read over SSH between two readings of ours. If the answer is slow, it is read again, and the quickest answer counts (as NTP chooses
among its samples, RFC 5905, section 10). The clock is moved by the difference instead of set to a time, because a busy machine may act on a command late.
"""

from __future__ import annotations

import math

import msgspec

from labctl.clock import Clock
from labctl.errors import RemoteError
from labctl.remote.interface import Remote

TOLERANCE_S = 0.75
GOOD_SAMPLE_S = 0.5
SAMPLES = 3
DEADLINE_S = 20.0
OFFSET = "/run/labctl-clock-offset"
SHIFT_CLOCK = "import sys, time; time.clock_settime(time.CLOCK_REALTIME, time.time() + float(sys.argv[1]))"


async def correct_clock(remote: Remote, name: str, clock: Clock) -> str:
    """Correct the clock if it is wrong. Return a sentence that says what was wrong, or an empty text. Raises RemoteError."""
    behind_s, took_s = await _measure(remote, name, clock)
    for _ in range(SAMPLES - 1):
        if took_s <= GOOD_SAMPLE_S:
            break
        behind_s, took_s = min((behind_s, took_s), await _measure(remote, name, clock), key=lambda look: look[1])
    if abs(behind_s) > TOLERANCE_S + took_s / 2:
        behind_s += await _offset(remote, name)
    if abs(behind_s) <= TOLERANCE_S + took_s / 2:
        return ""
    await remote.run(name, ["python3", "-c", SHIFT_CLOCK, f"{behind_s:.3f}"], deadline_s=DEADLINE_S)
    return f"its clock was {abs(behind_s):.1f} s {'behind' if behind_s > 0 else 'ahead'}, and was set"


async def _offset(remote: Remote, name: str) -> float:
    """Return by how many seconds a fault made the clock go ahead on purpose (agent/faults/clock.py): that is kept."""
    said = (await remote.run(name, ["cat", OFFSET], deadline_s=DEADLINE_S, check=False)).stdout
    try:
        return _finite(msgspec.json.decode(said)["offset"]) if said else 0.0
    except (ValueError, TypeError, LookupError):
        raise RemoteError(f"{name}: {OFFSET} says {said[:40]!r}") from None


async def _measure(remote: Remote, name: str, clock: Clock) -> tuple[float, float]:
    """Return how many seconds the clock is behind, and how many seconds the answer took.

    The first is wrong by at most half of the second.
    """
    before = clock.wall()
    said = (await remote.run(name, ["date", "+%s.%N"], deadline_s=DEADLINE_S)).stdout
    after = clock.wall()
    try:
        return (before + after) / 2 - _finite(said), after - before
    except ValueError:
        raise RemoteError(f"{name}: its clock says {said[:40]!r}") from None


def _finite(said: str | bytes | float) -> float:
    """Return a number that a machine says. Raises ValueError for nan and infinity, of which each comparison is wrong."""
    value = float(said)
    if not math.isfinite(value):
        raise ValueError("not finite")
    return value
