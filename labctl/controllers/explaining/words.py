"""Small phrases that the sentences of several kinds share."""

from __future__ import annotations


def pods(count: int) -> str:
    return "1 pod" if count == 1 else f"{count} pods"


def colon(message: str) -> str:
    return f": {message}" if message else ""
