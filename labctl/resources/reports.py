"""What agents report in their Events becomes lines of the journal: a container's image is there, its process was started, a probe failed.

Resources calls it for each Event that a node wrote. The line says how long before it the thing happened: as long as the agent says in its annotation, and as
long as the write took here. So the timeline of a fault needs no clock of a machine. What a node writes may be anything, so what is no such number is passed over.
"""

from __future__ import annotations

from labctl.journal import Journal
from labctl.resources.kinds.core_v1.event import Event

AGE = "labctl.internal/age"  # `SECONDS SECONDS`: its age when it was sent, and how long the agent's request before took
_AGE_MAX_S = 3600.0
_DID = {"Pulled": "image", "Started": "started", "Unhealthy": "probe"}
_TEXT_MAX = 200


def note_report(journal: Journal, event: Event, since_arrival_s: float) -> None:
    """Note what the Event reports, if it is one of these things. `since_arrival_s` is how long ago its request came in."""
    did, about = _DID.get(event.reason), event.involved_object
    if did is None or about.kind != "Pod":
        return
    age_s, unsure_s = _seconds(event.metadata.annotations.get(AGE, ""))
    journal.note(
        "agent",
        f"pods/{about.namespace}/{about.name}",
        f"{event.message[:_TEXT_MAX]}{_container(about.field_path)}",
        did=did,
        where=event.source.host,
        age=round(age_s + since_arrival_s, 6),
        unsure=round(unsure_s, 6),
    )


def _container(path: str) -> str:
    """Return which container an Event is about, as a journal's line tells it: `: web` for `spec.containers{web}`."""
    name = path[:_TEXT_MAX].partition("{")[2].rstrip("}")
    return f": {name}" if name else ""


def _seconds(text: str) -> tuple[float, float]:
    """Return both numbers. Without an age that can be believed the age is 0, and nobody knows how wrong that is: the longest possible time."""
    parts = text.split(" ") if len(text) < 40 else []
    try:
        age_s, took_s = (float(part) for part in parts)
    except ValueError:
        return 0.0, _AGE_MAX_S
    return (age_s, took_s) if 0 <= age_s <= _AGE_MAX_S and 0 <= took_s <= _AGE_MAX_S else (0.0, _AGE_MAX_S)
