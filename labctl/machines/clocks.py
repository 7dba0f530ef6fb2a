"""A machine's clock, set right where it is labctl's to set: one that was paused, restored or asleep has missed time, and nobody else tells it.

Here, and not where a provider resumes: a machine also goes on behind every provider's back (libvirt's own tools, a host that slept), the tender hears of
all of it, and a switch should not wait for an SSH login. Without a master nothing of the lab runs by the clock; the next one joins the machine first, and
that sets it. Only a load of a snapshot sets clocks by itself (providers.protocol.Snapshots): pods go on in that very moment, before there is a master.

Read over SSH and compared with the moments before and after, so that a slow answer is no error of the clock; set only if it is wrong by more.
"""

from __future__ import annotations

from labctl.clock import Clock
from labctl.errors import RemoteError
from labctl.remote.interface import Remote

WRONG_S = 1.0
DEADLINE_S = 20.0


async def set_right(remote: Remote, name: str, clock: Clock) -> str:
    """What was wrong, in a sentence; empty if it was right. Raises RemoteError."""
    before = clock.wall()
    said = (await remote.run(name, ["date", "+%s.%N"], deadline_s=DEADLINE_S)).stdout
    after = clock.wall()
    try:
        shown = float(said)
    except ValueError:
        raise RemoteError(f"{name}: its clock says {said[:40]!r}") from None
    if before - WRONG_S <= shown <= after + WRONG_S:
        return ""
    await remote.run(name, ["date", "-s", f"@{clock.wall():.3f}"], deadline_s=DEADLINE_S)
    wrong_s = shown - (before + after) / 2
    return f"its clock was {abs(wrong_s):.1f} s {'ahead' if wrong_s > 0 else 'behind'}, and was set"
