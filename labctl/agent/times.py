"""Times as the API writes them, and durations as Kubernetes' messages do."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Optional


def rfc3339(wall_s: float) -> str:
    return datetime.fromtimestamp(int(wall_s), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse(text: Optional[str]) -> float:
    """Seconds since the epoch, for any RFC 3339 time; 0.0 for none. Nanoseconds, as in logs, are cut to microseconds."""
    if not text:
        return 0.0
    body, zone = (text[:-1], "+00:00") if text.endswith(("Z", "z")) else (text[:-6], text[-6:])
    whole, _, fraction = body.partition(".")
    return datetime.fromisoformat(whole + zone).timestamp() + (float("0." + fraction) if fraction else 0.0)


def duration(seconds: float) -> str:
    """Write seconds as Go does: 10s, 1m20s, 5m0s, 1.5s, 320ms."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms" if seconds else "0s"
    minutes, rest = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}" if minutes else text
