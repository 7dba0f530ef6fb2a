"""Sets the clock of a machine that has a clock of its own. A machine that was paused, restored or asleep has missed time, and nobody else tells it.

Here, and not where a provider resumes: a machine also goes on behind every provider's back (libvirt's own tools, a host that slept), the worker hears of
all of it, and a switch should not wait for an SSH login. Without a master nothing of the lab runs by the clock; the next one joins the machine first, and
that sets it. Only a load of a snapshot sets clocks by itself (providers.protocol.Snapshots): pods go on in that very moment, before there is a master.

Read over SSH between two looks at ours, several times if the answer is slow, and the quickest answer counts (as NTP chooses among its samples, RFC 5905, section 10).
Moved by the difference and not set to a time: by the time a busy machine obeys, the time that was sent is long over.
"""

from __future__ import annotations

from labctl.clock import Clock
from labctl.errors import RemoteError
from labctl.remote.interface import Remote

WRONG_S = 0.75
QUICK_S = 0.5
LOOKS = 3
DEADLINE_S = 20.0
MOVE = "import sys, time; time.clock_settime(time.CLOCK_REALTIME, time.time() + float(sys.argv[1]))"


async def set_right(remote: Remote, name: str, clock: Clock) -> str:
    """Sets the clock if it is wrong. Answers a sentence that says what was wrong, or an empty text. Raises RemoteError."""
    behind_s, took_s = await _look(remote, name, clock)
    for _ in range(LOOKS - 1):
        if took_s <= QUICK_S:
            break
        behind_s, took_s = min((behind_s, took_s), await _look(remote, name, clock), key=lambda look: look[1])
    if abs(behind_s) <= WRONG_S + took_s / 2:
        return ""
    await remote.run(name, ["python3", "-c", MOVE, f"{behind_s:.3f}"], deadline_s=DEADLINE_S)
    return f"its clock was {abs(behind_s):.1f} s {'behind' if behind_s > 0 else 'ahead'}, and was set"


async def _look(remote: Remote, name: str, clock: Clock) -> tuple[float, float]:
    """How many seconds the clock is behind, and how many seconds the answer took: the first is wrong by at most half of the second."""
    before = clock.wall()
    said = (await remote.run(name, ["date", "+%s.%N"], deadline_s=DEADLINE_S)).stdout
    after = clock.wall()
    try:
        return (before + after) / 2 - float(said), after - before
    except ValueError:
        raise RemoteError(f"{name}: its clock says {said[:40]!r}") from None
